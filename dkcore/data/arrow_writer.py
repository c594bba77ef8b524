"""Where rows go that come in a stream: Arrow IPC files, in shared memory while there is room, else in a directory."""

import contextlib
import errno
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import pyarrow

from dkcore.arrays import Array
from dkcore.data.arrow_columns import AHEAD, BOOLEAN, Column
from dkcore.data.shm_budget import Room
from dkcore.ranks.shm import locked_file

__all__ = ["Store"]

CHUNK = 4 << 20  # bytes: rows that come in smaller numbers are written together
OVERHEAD = 1 << 16  # bytes of a record batch, and of the end of a file, at most
Opened: TypeAlias = tuple[BinaryIO, pyarrow.RecordBatchFileWriter]  # a file, and what writes record batches to it


class Store:
    """Columns of numbers, as many rows as come; a context manager that removes its files when it ends.

    directory, part: where files go, and what their names begin with, when there is no ``room`` in shared memory (any longer).

    Attributes:
        files: their paths; `dkcore.data.arrow_columns.open_pieces` maps them after `finish`.
        rows, bytes, shared_bytes: how many of them, in all files and in shared memory.
        columns: dtype and shape of an element of each column, once there was a row.
    """

    def __init__(self, directory: Path, part: str, room: Room):
        self.directory, self.part, self.room = directory, part, room
        self.files: list[str] = []
        self.columns: dict[str, Column] = {}
        self.rows = self.bytes = self.shared_bytes = self.waiting = 0
        self.pending: list[Mapping[str, Array]] = []
        self.stack, self.shared = contextlib.ExitStack(), True
        self.opened: Opened | None = None  # what rows are written to

    def append(self, columns: Mapping[str, Array]) -> None:
        """Add rows: an array of each column, all of one length and of the same dtypes and shapes as before."""
        self.rows += len(next(iter(columns.values())))
        self.pending.append(columns)
        self.waiting += sum(column.nbytes for column in columns.values())
        if self.waiting >= CHUNK:
            self.write()

    def write(self) -> None:
        """Write a record batch of all rows that wait."""
        whole = self.pending[0]
        if len(self.pending) > 1:
            whole = {name: np.concatenate([columns[name] for columns in self.pending]) for name in whole}
        batch = record_batch(whole)
        self.columns = self.columns or {name: {"dtype": a.dtype.name, "shape": list(a.shape[1:])} for name, a in whole.items()}
        self.choose(self.waiting + OVERHEAD, batch.schema).write_batch(batch)
        self.bytes += self.waiting
        self.shared_bytes += self.waiting if self.shared else 0
        self.pending, self.waiting = [], 0

    def choose(self, size: int, schema: pyarrow.Schema) -> pyarrow.RecordBatchFileWriter:
        """The writer of a file with room for that many bytes more."""
        if self.shared and not self.fits(size, schema):
            self.end_file()
            self.shared = False
        opened = self.opened
        if opened is None:
            path = self.directory / f"{self.part}-{secrets.token_hex(6)}.arrow"
            self.stack.callback(path.unlink, missing_ok=True)
            opened = self.begin_file(path, self.stack.enter_context(path.open("wb")), schema)
        return opened[1]

    def fits(self, size: int, schema: pyarrow.Schema) -> bool:
        """Whether shared memory takes that many bytes more; they are set aside for the file there then."""
        if not self.room.has(size):
            return False
        opened = self.opened
        if opened is None:
            path = self.room.shared / f"dkcore-data-{secrets.token_hex(6)}"
            held = self.stack.enter_context(locked_file(str(path)))
            file = self.stack.enter_context(os.fdopen(os.dup(held), "wb"))
            file.seek(AHEAD)
            opened = self.begin_file(path, file, schema)
        try:
            os.posix_fallocate(opened[0].fileno(), opened[0].tell(), size)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        return True

    def begin_file(self, path: Path, file: BinaryIO, schema: pyarrow.Schema) -> Opened:
        self.files.append(str(path))
        self.opened = file, pyarrow.ipc.new_file(file, schema)
        return self.opened

    def end_file(self) -> None:
        if self.opened is not None:
            file, writer = self.opened
            writer.close()
            file.truncate(file.tell())  # what was set aside for more
            file.close()
            self.opened = None

    def finish(self) -> None:
        """All rows have come: whole files lie there, for as long as this store is open."""
        if self.pending:
            self.write()
        self.end_file()

    def close(self) -> None:
        """Remove the files."""
        self.stack.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def record_batch(columns: Mapping[str, Array]) -> pyarrow.RecordBatch:
    """The same rows for Arrow, copied only where they are not contiguous. Booleans become bytes, marked as what they are."""
    arrays, fields = [], []
    for name, column in columns.items():
        flat = np.ascontiguousarray(column).reshape(-1)
        array = pyarrow.array(flat.view(np.uint8) if flat.dtype == bool else flat)
        for width in reversed(column.shape[1:]):
            array = pyarrow.FixedSizeListArray.from_arrays(array, width)
        arrays.append(array)
        fields.append(pyarrow.field(name, array.type, metadata=BOOLEAN if flat.dtype == bool else None))
    return pyarrow.RecordBatch.from_arrays(arrays, schema=pyarrow.schema(fields))
