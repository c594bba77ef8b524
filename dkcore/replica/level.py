"""A level: one way in which a call reaches a model's weights. Each Keras backend has several, the best first."""

from typing import Any, Protocol

import numpy as np

from dkcore.arrays import Array

__all__ = ["Level", "PreparedCall"]


class PreparedCall(Protocol):
    """An exchange that is prepared but for the weights: `dkcore._engine.Call`."""

    @property
    def function(self) -> int: ...
    @property
    def address(self) -> int: ...
    def flat(self, w: Array) -> None: ...
    def segments(self, addresses: Array, lengths: Array) -> None: ...
    def check_status(self, returned: int = ...) -> None: ...


class Level:
    """Read and assign: one flat copy through the framework's front door. The last level of every backend.

    A backend says how one variable is read, assigned and counted; its faster levels replace ``run``.

    Args:
        model: what ``fit`` is called on.
        variables: the Keras variables that are exchanged, in the order of the center, all of one dtype.
    """

    name = "assign"

    def __init__(self, model: Any, variables: list[Any]) -> None:
        self.model = model
        self.variables = variables
        self.lengths = np.array([np.prod(variable.shape, dtype=np.uint64) for variable in variables], np.uint64)
        self.size = int(self.lengths.sum())

    def arrays(self) -> list[Array]:
        """The weights as host arrays, to look and not to touch: some backends give views of the live buffers."""
        raise NotImplementedError

    def assign(self, variable: Any, array: Array) -> None:
        """Give one variable a copy of an array. The array is not kept: it may be a view of shared memory."""
        raise NotImplementedError

    def count(self, variable: Any) -> int:
        """The value of an integer variable of the optimizer."""
        raise NotImplementedError

    def read(self, out: Array) -> None:
        """Copy all weights into a flat array of ``size`` elements."""
        np.concatenate([array.reshape(-1) for array in self.arrays()], out=out)

    def write(self, flat: Array) -> None:
        """Copy a flat array of ``size`` elements into the weights."""
        for variable, piece in zip(self.variables, self.split(flat), strict=True):
            self.assign(variable, piece.reshape(tuple(variable.shape)))

    def split(self, flat: Array) -> list[Array]:
        """A flat array of ``size`` elements as one flat view for each variable."""
        return np.split(flat, np.cumsum(self.lengths, dtype=np.intp)[:-1])

    def run(self, call: PreparedCall) -> None:
        """Run a prepared call on the weights.

        Raises:
            DkcoreError: what the call itself raises.
        """
        flat = np.empty(self.size, self.arrays()[0].dtype)
        self.read(flat)
        try:
            call.flat(flat)
        finally:
            # The center has the stripes that were done before the error, so the model must have its half of them too.
            self.write(flat)
