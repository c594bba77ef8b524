"""Columns of Arrow record batches as numpy arrays: numbers, booleans, and arrays of them nested to any depth."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dkcore.arrays import Array
from dkcore.errors import DataError, expected

__all__ = ["to_arrow", "to_numpy"]


def to_numpy(array: pa.Array, name: str, *, first: int = 0, partition: int | None = None) -> Array:
    """The column as one array of shape (rows, ...) and of its own dtype; where Arrow allows it a read-only view, no copy.

    Without rows the widths of lists are unknown, and 0. name: of the column; first: the number that its first row has in the
    partition; both, and the partition, are for messages. DataError: a null, rows of different shapes, or no numbers.
    """
    kind = array.type
    shape = [len(array)]

    def refuse(what: str, bad: pa.Array, received: str, advice: str) -> DataError:
        element = int(np.flatnonzero(bad.to_numpy(zero_copy_only=False))[0])
        row = first + element // max(int(np.prod(shape[1:])), 1)
        place = f"row {row}" if partition is None else f"row {row} of partition {partition}"
        return DataError(expected(f"{what} in column {name!r}", f"{received} in {place}", advice))

    while is_list(array.type):
        if array.null_count:
            raise refuse("no null", array.is_null(), "one", "Drop the row, or fill it with na.fill.")
        lengths = pc.list_value_length(array)
        width = lengths[0].as_py() if len(array) else 0
        ragged = pc.not_equal(lengths, width)
        if pc.any(ragged).as_py():
            element = pc.index(ragged, True).as_py()
            received = f"{lengths[element].as_py()} elements, where the rows before have {width}"
            raise refuse("arrays of one shape", ragged, received, "Pad or crop them to one length.")
        array = array.flatten()
        shape.append(width)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
        raise DataError(expected(f"numbers, booleans or arrays of them in column {name!r}", kind, "Cast or index the column."))
    if array.null_count:
        raise refuse("no null", array.is_null(), "one", "Drop the row, or fill it with na.fill.")
    found: Array = array.to_numpy(zero_copy_only=False).reshape(shape)
    return found


def to_arrow(array: Array) -> pa.Array:
    """The rows of an array: numbers for one axis, lists nested as deeply as there are more axes. No copy if it is contiguous."""
    column = pa.array(np.ascontiguousarray(array).reshape(-1))
    for axis in range(array.ndim - 1, 0, -1):
        count, width = int(np.prod(array.shape[:axis])), array.shape[axis]
        column = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype="int32") * np.int32(width)), column)
    return column


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
