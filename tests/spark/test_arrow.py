"""Arrow columns as numpy arrays, and back: nothing is lost, and what cannot be trained on is named."""

import numpy as np
import pyarrow as pa
import pytest

from dkcore.errors import DataError
from spark_bridge.arrow import to_arrow, to_numpy


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 3), (4, 2, 3), (3, 2, 1, 4)])
def test_there_and_back(dtype, shape):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    column = to_arrow(array)
    for each in (column, column.slice(1), column.slice(1, 2), column.slice(2, 0)):
        found = to_numpy(each, "x")
        part = array[each.offset : each.offset + len(each)]
        assert found.dtype == array.dtype and found.ndim == array.ndim
        assert np.array_equal(found, part) if len(each) else len(found) == 0


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)])
def test_every_kind_of_list(kind):
    column = pa.array([[9, 9], [1, 2], [3, 4]], kind).slice(1)
    assert to_numpy(column, "x").tolist() == [[1, 2], [3, 4]]


def test_numbers_are_not_copied():
    column = pa.array(np.ones((4, 3), "float32").reshape(-1).tolist(), pa.float32())
    assert to_numpy(column, "x").ctypes.data == column.buffers()[1].address


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1.0, None]), "no null in column 'x'. Received: one in row 11 of partition 2"),
        (pa.array([[1.0], [2.0], None]), "no null in column 'x'. Received: one in row 12 of"),
        (pa.array([[1.0], [2.0], None], pa.list_(pa.float64(), 1)), "no null in column 'x'. Received: one in row 12 of"),
        (pa.array([[1.0, 2.0], [2.0, None]]), "no null in column 'x'. Received: one in row 11 of"),
        (pa.array([[[1.0], [1.0]], [[1.0], [None]]]), "no null in column 'x'. Received: one in row 11 of"),
        (pa.array([[[1.0], [1.0]], [[1.0], None]]), "no null in column 'x'. Received: one in row 11 of"),
        (pa.array([[1.0], [2.0], [3.0, 4.0]]), "one shape in column 'x'. Received: 2 elements, where the rows before have 1 in row 12 of"),
        (pa.array([[[1.0], [1.0]], [[1.0], []]]), "one shape in column 'x'. Received: 0 elements, where the rows before have 1 in row 11"),
        (pa.array(["a"]), "numbers, booleans or arrays of them in column 'x'. Received: string"),
        (pa.array([["a"]]), "numbers, booleans or arrays of them in column 'x'. Received: list"),
        (pa.array([{"a": 1}]), "numbers, booleans or arrays of them in column 'x'. Received: struct"),
    ],
)
def test_what_cannot_be_trained_on_is_named(column, message):
    with pytest.raises(DataError) as error:
        to_numpy(column, "x", first=10, partition=2)
    assert message in str(error.value)
