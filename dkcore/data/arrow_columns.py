"""Rows that lie in many Arrow IPC files, as arrays: what each rank of a Spark job has, and the ranks of a node share.

Design:
(a) All files are mapped into one range of addresses, each from a page of its own on. So a row is a number of bytes from the
    begin of that range, whichever file and record batch it is in, and a batch of rows is one fancy index.
(b) Nothing is copied before rows are taken, and the mapped pages are the page cache's: the kernel may drop them. So rows that
    are more than memory holds can be trained on.
"""

import json
import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from dkcore.arrays import Array
from dkcore.errors import DataError, expected
from dkcore.ranks.shm import MAGIC

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Column", "Pieces", "describe", "open_pieces"]

SIDECAR = "arrays.json"
AHEAD = 64  # bytes before what Arrow wrote, in a file that begins with our mark: those in shared memory are known by it
BOOLEAN = {b"dkcore": b"bool"}  # of a field whose bytes are booleans: Arrow's own are bits


class Column(TypedDict):
    """An element of a column: its dtype by name, and its shape."""

    dtype: str
    shape: list[int]


class Pieces:
    """A column as an array that gives rows: ``pieces[rows]`` is a new array of them, rows an array of int64.

    shape, dtype: as of a numpy array; the first axis is the row.
    """

    def __init__(self, memory: Array, counts: Sequence[int], places: Sequence[int], dtype: npt.DTypeLike, element: Sequence[int]):
        """memory: the mapped bytes. counts, places: of each record batch, how many rows, and the byte where the first one is."""
        self.memory, self.dtype, self.shape = memory, np.dtype(dtype), (sum(counts), *element)
        self.width = self.dtype.itemsize * int(np.prod(element, dtype=np.int64))
        self.firsts = np.cumsum([0, *counts[:-1]]) if len(counts) else np.zeros(0, np.int64)
        self.shifts = np.array(places, np.int64) - self.firsts * self.width
        windows = max(len(memory) - self.width + 1, 0) if len(counts) else 0
        self.windows: Array = np.ndarray((windows,), np.dtype((np.void, self.width)), memory, strides=(1,))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return len(self) * self.width

    def bytes_at(self, rows: Array) -> Array:
        """Where in memory each of the rows begins."""
        begins: Array = self.shifts[self.firsts.searchsorted(rows, side="right") - 1] + rows * self.width
        return begins

    def __getitem__(self, rows: Array) -> Array:
        if len(rows) == 0:
            return np.empty((0, *self.shape[1:]), self.dtype)
        if rows.view(np.uint64).max() >= len(self):  # as unsigned numbers negative ones are large
            raise IndexError(expected(f"rows of 0 to {len(self) - 1}", f"{rows.min()} to {rows.max()}", "They are counted from 0."))
        taken: Array = self.windows[self.bytes_at(rows)]
        return taken.view(self.dtype).reshape(len(rows), *self.shape[1:])

    def __repr__(self) -> str:
        return f"<Pieces {self.shape} of {self.dtype} in {len(self.firsts)} record batches>"


def describe(
    directory: Path | str, structure: Mapping[str, Any], columns: Mapping[str, Column], files: Mapping[str, Sequence[str]]
) -> None:
    """Write down what `dkcore.data.arrays.read` needs of a directory of pieces.

    structure: x, y and sample_weight of each part, with the name of a column at each leaf. columns: dtype and shape of an
    element of each, empty where no row came. files: the Arrow IPC files of each part, ``"train"`` and ``"test"``.
    """
    content = {"structure": structure, "columns": columns, "pieces": {part: [str(file) for file in files[part]] for part in files}}
    Path(directory, SIDECAR).write_text(json.dumps(content, indent=1))


def open_pieces(files: Sequence[Path | str], columns: Mapping[str, Column]) -> dict[str, Pieces]:
    """The columns of those files, mapped, by name. DataError for a file that is not there, or has not those columns."""
    import pyarrow

    memory, starts, sizes = map_files(files)
    counts: list[int] = []
    places: dict[str, list[int]] = {name: [] for name in columns}
    for file, start, size in zip(files, starts, sizes, strict=True):
        try:
            begin = start + AHEAD * (memory[start : start + len(MAGIC)].tobytes() == MAGIC)
            reader = pyarrow.ipc.open_file(pyarrow.py_buffer(memory[begin : start + size]))
            check_columns(file, reader.schema, columns)
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                counts.append(batch.num_rows)
                for name, found in places.items():
                    found.append(place_of(batch.column(name)) - memory.ctypes.data)
                    if not start <= found[-1] < start + size:
                        advice = "Compressed ones cannot be mapped."
                        raise DataError(expected(f"plain numbers in column {name!r}", f"others in {file}", advice))
        except pyarrow.ArrowInvalid as error:
            raise DataError(expected(f"an Arrow IPC file at {file}", error, "Was it cut short?")) from error
    return {name: Pieces(memory, counts, found, columns[name]["dtype"], columns[name]["shape"]) for name, found in places.items()}


def map_files(files: Sequence[Path | str]) -> tuple[Array, list[int], list[int]]:
    """The bytes of all files in one read-only array, with where each begins and how long it is."""
    from dkcore import _engine  # here: who only describes columns needs no compiled engine

    try:
        sizes = [os.path.getsize(file) for file in files]
        ends = np.cumsum([-(-size // mmap.PAGESIZE) * mmap.PAGESIZE for size in sizes], dtype=np.int64).tolist()
        starts = [0, *ends[:-1]] if ends else []
        addresses = _engine.Range(max([mmap.PAGESIZE, *ends]))
        for file, start, size in zip(files, starts, sizes, strict=True):
            with open(file, "rb") as opened:
                addresses.map(opened.fileno(), start, size)
    except OSError as error:
        raise DataError(expected("the files of the training data", error, "Files of a job must stay where they are.")) from error
    return np.frombuffer(memoryview(addresses), np.uint8), starts, sizes


def check_columns(file: Path | str, schema: "pyarrow.Schema", columns: Mapping[str, Column]) -> None:
    """DataError when the columns of a file are not those."""
    for name, column in columns.items():
        received = described(schema.field(name)) if name in schema.names else "none"
        if received != {"dtype": column["dtype"], "shape": list(column["shape"])}:
            advice = "All files must have the same columns."
            raise DataError(expected(f"{dict(column)} in column {name!r}", f"{received} in {file}", advice))


def described(field: "pyarrow.Field") -> Column:
    """dtype and shape of an element of a column, by its Arrow field."""
    kind, shape = field.type, list[int]()
    while hasattr(kind, "list_size"):
        shape.append(kind.list_size)
        kind = kind.value_type
    dtype = "bool" if field.metadata == BOOLEAN else kind.to_pandas_dtype()
    return {"dtype": "bits" if dtype is np.bool_ else np.dtype(dtype).name, "shape": shape}


def place_of(column: "pyarrow.Array") -> int:
    """The address of the first number of a column."""
    while hasattr(column.type, "list_size"):
        column = column.values
    address: int = column.buffers()[1].address
    return address
