"""The weights of a Keras model on torch: Parameters keep their addresses, under torch.compile too."""

from typing import Any

import keras
import numpy as np

from dkcore.arrays import Array
from dkcore.errors import ModelError, expected
from dkcore.replica.level import Level, PreparedCall

__all__ = ["LEVELS", "Spare"]


class TorchAssign(Level):
    """Read and assign."""

    def arrays(self) -> list[Array]:
        return [variable.value.detach().cpu().numpy() for variable in self.variables]

    def assign(self, variable: Any, array: Array) -> None:
        variable.assign(array)  # ends in Parameter.copy_

    def count(self, variable: Any) -> int:
        return int(variable.value.item())


class TorchPointer(TorchAssign):
    """The Parameters' own memory, in place."""

    name = "torch-pointer"

    def __init__(self, model: Any, variables: list[Any]) -> None:
        super().__init__(model, variables)
        # Kept, because going through Keras costs 10 times more; the addresses are not: asking costs 0.1 us each.
        self._parameters = [variable.value for variable in variables]
        for variable, parameter in zip(variables, self._parameters, strict=True):
            if parameter.device.type != "cpu" or not parameter.is_contiguous():
                where = f"{variable.path} on {parameter.device}, strides {parameter.stride()}"
                raise ModelError(expected("contiguous weights in host memory", where, 'Use level="assign".'))

    def run(self, call: PreparedCall) -> None:
        addresses = np.array([parameter.data_ptr() for parameter in self._parameters], np.uint64)
        call.segments(addresses, self.lengths)


class Spare:
    """Two variables of no model, for the proof of a level."""

    def __init__(self, arrays: list[Array]) -> None:
        self.model = None
        self.variables = [keras.Variable(array, dtype=str(array.dtype), trainable=False) for array in arrays]

    def read(self) -> list[Array]:
        """The values that torch's next operation sees."""
        return [(variable.value + 0).detach().cpu().numpy() for variable in self.variables]


LEVELS = (TorchPointer, TorchAssign)
