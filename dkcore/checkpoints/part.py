"""A part of a checkpoint: arrays in one .npz file, without pickles, and a record beside it."""

import hashlib
import json
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from dkcore.errors import CheckpointError, expected, first_line

if TYPE_CHECKING:
    from dkcore.arrays import Array
    from dkcore.checkpoints.folder import Folder

__all__ = ["FAILURE", "node_part", "rank_part", "read_part", "report_failure", "write_part"]

FAILURE = "failure"  # in a record: why the part was not written


def rank_part(rank: int) -> str:
    """The name of a rank's part: its optimizer and what else it has for itself."""
    return f"rank-{rank}.npz"


def node_part(node: int) -> str:
    """The name of a node's part: its center, with states and merge."""
    return f"node-{node}.npz"


class Hashing:
    """A file to write into, which is hashed on the way. It cannot be searched, so that no byte is changed afterwards."""

    def __init__(self, file: IO[bytes]):
        self.file, self.size, self.hash = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        self.file.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is kept here."""

    def read(self, _: int = -1) -> bytes:
        """Numpy takes for a file what has it."""
        raise OSError("not open for reading")


def write_part(folder: "Folder", checkpoint: str, name: str, arrays: Mapping[str, "Array"], about: Mapping[str, Any]) -> None:
    """Write a part of a draft, and then its record. about: what the manifest shall say of it. OSError when that fails."""
    draft = folder.draft(checkpoint)
    folder.make(draft)
    with folder.writing(draft, name) as stream:
        hashing: Any = Hashing(stream)  # zipfile asks for no more of a file
        plain: dict[str, Any] = dict(arrays)
        np.savez(hashing, **plain)
    record = {"size": hashing.size, "sha256": hashing.hash.hexdigest(), "about": dict(about)}
    folder.write(json.dumps(record).encode(), draft, record_of(name))


def report_failure(folder: "Folder", checkpoint: str, name: str, error: OSError) -> None:
    """Leave word that a part could not be written, in its place: nobody waits for it then."""
    draft = folder.draft(checkpoint)
    if name in folder.names(draft):
        folder.files.delete_file(folder.at(draft, name))  # room for the word
    folder.write(json.dumps({FAILURE: first_line(error)}).encode(), draft, record_of(name))


def record_of(name: str) -> str:
    return name.replace(".npz", ".json")


def read_part(folder: "Folder", checkpoint: str, name: str) -> dict[str, "Array"]:
    """All arrays of a part of a checkpoint. CheckpointError when it is no such file."""
    try:
        with folder.open(checkpoint, name) as file, np.load(file, allow_pickle=False) as saved:
            return {key: saved[key] for key in saved.files}
    except (OSError, ValueError, EOFError) as error:
        advice = "It was changed since its checkpoint was checked: take the checkpoint before it."
        raise CheckpointError(expected(f"a part of a checkpoint in {folder.at(checkpoint, name)}", first_line(error), advice)) from error
