"""The proof of a level: before a replica trusts it, it must change a spare variable and have the framework see it."""

import ctypes
from typing import Any

import numpy as np

from dkcore.errors import ModelError, expected

__all__ = ["prove"]

NATIVE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_uint64))


class Probe:
    """A call like those of `dkcore.center`, which turns each weight x into 1 - x: done twice, it undoes itself."""

    def __init__(self, dtype: np.dtype) -> None:
        self._item = np.ctypeslib.as_ctypes_type(dtype)
        self._native = NATIVE(self._run)
        self.function = ctypes.cast(self._native, ctypes.c_void_p).value
        self.address = 0

    def _run(self, call: int | None, count: int, addresses: Any, lengths: Any) -> int:
        for address, length in zip(addresses[:count], lengths[:count], strict=True):
            self.flat(np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(self._item)), (length,)))
        return 0

    def flat(self, weights: np.ndarray) -> None:
        np.subtract(1, weights, out=weights)

    def segments(self, addresses: np.ndarray, lengths: np.ndarray) -> None:
        self._run(None, len(addresses), addresses.tolist(), lengths.tolist())

    def check_status(self, returned: int) -> None:
        """Cannot fail."""


def prove(level_class: type, spare_class: type, dtype: np.dtype) -> None:
    """Change spare variables through a level, read them through the framework, and undo it.

    Args:
        level_class: a `dkcore.replica.level.Level`.
        spare_class: the backend's ``Spare``.
        dtype: of the weights that will be exchanged.

    Raises:
        ModelError: the framework did not see the edit, or saw another.
    """
    before = [np.arange(3, dtype=dtype), np.arange(80, dtype=dtype).reshape(5, 16)]
    spare, probe = spare_class(before), Probe(dtype)
    level = level_class(spare.model, spare.variables)
    for what, wanted in (("edited", [1 - array for array in before]), ("restored", before)):
        level.run(probe)
        seen = spare.read()
        if not all(np.array_equal(one, two) for one, two in zip(seen, wanted, strict=True)):
            what = f"spare variables {what} by {level.name}"
            raise ModelError(expected(what, seen[0], 'Report it; level="assign" is always right.'))
