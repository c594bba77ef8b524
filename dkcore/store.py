"""Where rows go that come in a stream: Arrow IPC files, in shared memory while there is room, else in a directory."""

import contextlib
import errno
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow

from dkcore.nodes import locked_file
from dkcore.pieces import BOOLEAN
from dkcore.room import Room

__all__ = ["Store"]

CHUNK = 4 << 20  # bytes: rows that come in smaller numbers are written together
OVERHEAD = 1 << 16  # bytes of a record batch, and of the end of a file, at most


class Store:
    """Columns of numbers, as many rows as come; a context manager that removes its files when it ends.

    directory, part: where files go, and what their names begin with, when there is no ``room`` in shared memory (any longer).

    Attributes:
        files: their paths; `dkcore.pieces.open_pieces` maps them after `finish`.
        rows, bytes, shared_bytes: how many of them, in all files and in shared memory.
        columns: dtype and shape of an element of each column, once there was a row.
    """

    def __init__(self, directory: Path, part: str, room: Room):
        self.directory, self.part, self.room = directory, part, room
        self.files: list[str] = []
        self.columns: dict[str, dict] = {}
        self.rows = self.bytes = self.shared_bytes = self.waiting = 0
        self.pending: list[Mapping[str, np.ndarray]] = []
        self.stack, self.file, self.writer, self.shared = contextlib.ExitStack(), None, None, True

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
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
        self.choose(self.waiting + OVERHEAD, batch.schema)
        self.writer.write_batch(batch)
        self.bytes += self.waiting
        self.shared_bytes += self.waiting if self.shared else 0
        self.pending, self.waiting = [], 0

    def choose(self, size: int, schema: pyarrow.Schema) -> None:
        """See to a file with room for that many bytes more."""
        if self.shared and not self.fits(size, schema):
            self.end_file()
            self.shared = False
        if self.writer is None:
            path = self.directory / f"{self.part}-{secrets.token_hex(6)}.arrow"
            self.stack.callback(path.unlink, missing_ok=True)
            self.begin_file(path, self.stack.enter_context(path.open("wb")), schema)

    def fits(self, size: int, schema: pyarrow.Schema) -> bool:
        """Whether shared memory takes that many bytes more; they are set aside for the file there then."""
        if not self.room.has(size):
            return False
        if self.writer is None:
            path = self.room.shared / f"dkcore-data-{secrets.token_hex(6)}"
            held = self.stack.enter_context(locked_file(str(path)))
            self.begin_file(path, self.stack.enter_context(os.fdopen(os.dup(held), "wb")), schema)
        try:
            os.posix_fallocate(self.file.fileno(), self.file.tell(), size)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        return True

    def begin_file(self, path: Path, file, schema: pyarrow.Schema) -> None:
        self.files.append(str(path))
        self.file = file
        self.writer = pyarrow.ipc.new_file(file, schema)

    def end_file(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.file.truncate(self.file.tell())  # what was set aside for more
            self.file.close()
            self.writer = None

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

    def __exit__(self, *error) -> None:
        self.close()


def record_batch(columns: Mapping[str, np.ndarray]) -> pyarrow.RecordBatch:
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
