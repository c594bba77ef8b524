"""The weights of a Keras model on TensorFlow.

Eager tensors are immutable by contract, variables are not; but TensorFlow moves a variable's buffer between two steps
when it likes, and hands aliases of it to whoever reads. Hence no address is ever kept, and the op copies before it
edits a buffer that somebody else still looks at.
"""

from typing import Any

import keras
import numpy as np
import tensorflow

from dkcore.arrays import Array
from dkcore.errors import ModelError, expected
from dkcore.replica import tensorflow_op
from dkcore.replica.level import Level, PreparedCall

__all__ = ["LEVELS", "Spare"]


class TensorflowAssign(Level):
    """Read and assign."""

    def arrays(self) -> list[Array]:
        return [variable.value.numpy() for variable in self.variables]

    def assign(self, variable: Any, array: Array) -> None:
        variable.assign(array)  # TensorFlow copies what comes from numpy, aligned or not

    def count(self, variable: Any) -> int:
        # A tenth of what Variable.numpy costs, and callbacks ask after every step.
        return int(tensorflow.raw_ops.ReadVariableOp(resource=variable.value.handle, dtype=variable.value.dtype))


class TensorflowOp(TensorflowAssign):
    """Our own op on the variables' handles: in place, under TensorFlow's locks, about 0.5 us a variable.

    Right also where ``copy_on_read_mode`` (an Embedding under plain SGD) makes every read a copy.
    """

    name = "tensorflow-op"

    def __init__(self, model: Any, variables: list[Any]) -> None:
        super().__init__(model, variables)
        self._op = tensorflow_op.load()
        self._handles = tensorflow.stack(handles_on_cpu(variables))
        self._dtype = variables[0].value.dtype

    def run(self, call: PreparedCall) -> None:
        target = np.array([call.function, call.address], np.int64)
        # int() waits for the status: under asynchronous eager execution the call may not be over before.
        call.check_status(int(self._op(handles=self._handles, target=target, T=self._dtype)))


class TensorflowAlias(TensorflowAssign):
    """The address of what a read returns, where a read is an alias and no copy. An older alias is edited with it."""

    name = "tensorflow-alias"

    def __init__(self, model: Any, variables: list[Any]) -> None:
        super().__init__(model, variables)
        self._handles = handles_on_cpu(variables)
        self._dtype = variables[0].value.dtype

    def run(self, call: PreparedCall) -> None:
        # Two reads that both live have one address only if neither is a copy.
        first, second = self._reads(), self._reads()
        if any(one.ctypes.data != two.ctypes.data for one, two in zip(first, second, strict=True)):
            return super().run(call)
        addresses = np.array([array.ctypes.data for array in first], np.uint64)
        return call.segments(addresses, self.lengths)

    def _reads(self) -> list[Array]:
        read = tensorflow.raw_ops.ReadVariableOp
        # memoryview shares the tensor's buffer; .numpy() would copy it.
        return [np.asarray(memoryview(read(resource=handle, dtype=self._dtype))) for handle in self._handles]


def handles_on_cpu(variables: list[Any]) -> list[Any]:
    handles = [variable.value.handle for variable in variables]
    elsewhere = [variable.path for variable in variables if "CPU" not in variable.value.device]
    if elsewhere:
        raise ModelError(expected("weights in host memory", f"{elsewhere[0]} elsewhere", 'Use level="assign".'))
    return handles


class Spare:
    """Two variables of no model, for the proof of a level."""

    def __init__(self, arrays: list[Array]) -> None:
        self.model = None
        self.variables = [keras.Variable(array, dtype=str(array.dtype), trainable=False) for array in arrays]

    def read(self) -> list[Array]:
        """The values that TensorFlow's next operation sees."""
        return [(variable.value + 0).numpy() for variable in self.variables]


LEVELS = (TensorflowOp, TensorflowAlias, TensorflowAssign)
