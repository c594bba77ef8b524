"""A folder of checkpoints, on this machine or on any file system that pyarrow knows.

Design:
(a) A checkpoint is a folder of parts, and of a manifest that names them. Parts come in any order, from any rank; the manifest is
    written last, by one process. What has no valid manifest is no checkpoint.
(b) On a local file system, parts are written into a folder with a hidden name. It gets the checkpoint's name when all of it is on
    the disk. Object stores cannot rename a folder, but there a file appears whole: parts are written in their place.
(c) Beside its part each rank leaves a small record: size, SHA-256, and where the rank stood. So the parts need no network of
    ours to come together, only the folder.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dkcore.errors import CheckpointError, expected, first_line

__all__ = ["MANIFEST", "Folder", "name_of", "number_of", "parent_of"]

MANIFEST = "manifest.json"
NAME = re.compile(r"checkpoint-(\d{8})")
DRAFT = ".draft-"
CHUNK = 1 << 20  # bytes that are read or copied at once


def name_of(number: int) -> str:
    """The name of a checkpoint.

    >>> name_of(12)
    'checkpoint-00000012'
    """
    return f"checkpoint-{number:08d}"


def number_of(name: str) -> int:
    """The number of a checkpoint by its name; 0 for one whose name somebody chose."""
    found = NAME.fullmatch(name)
    return int(found[1]) if found else 0


def parent_of(location: str) -> tuple["Folder", str]:
    """The folder that a checkpoint of that path lies in, and its name there."""
    parent, _, name = (location if is_uri(location) else os.path.abspath(location)).rstrip("/").rpartition("/")
    return Folder(parent or "/"), name


def is_uri(location: str) -> bool:
    """Whether a place is named by a URI, rather than by a path of this machine."""
    return "://" in location


class Folder:
    """Files of checkpoints in a folder. location: a path, or a URI of a file system that pyarrow knows, such as ``s3://bucket/job``.

    CheckpointError for a URI of another kind. What cannot be read or written is an OSError.
    """

    def __init__(self, location: str):
        from pyarrow import ArrowInvalid, ArrowNotImplementedError
        from pyarrow.fs import FileSystem, LocalFileSystem

        self.location = location.rstrip("/") if is_uri(location) else os.path.abspath(location)
        self.path: str
        try:
            self.files, self.path = FileSystem.from_uri(self.location) if is_uri(location) else (LocalFileSystem(), self.location)
        except (ArrowInvalid, ArrowNotImplementedError, ImportError, ValueError) as error:
            advice = "Such as s3://bucket/folder, gs://..., hdfs://...; fsspec+NAME:// for those of fsspec."
            what = "a folder, or the URI of a file system that pyarrow knows"
            raise CheckpointError(expected(what, f"{location} ({first_line(error)})", advice)) from error
        self.local = isinstance(self.files, LocalFileSystem)

    def at(self, *names: str) -> str:
        """The path of a file, as the file system has it."""
        return "/".join([self.path, *names])

    def draft(self, name: str) -> str:
        """Where the parts of a checkpoint are written."""
        return f"{DRAFT}{name}" if self.local else name

    def numbers(self, drafts: bool = False) -> list[int]:
        """The numbers of the checkpoints that lie here, or of those that were begun; whether they are whole their manifests say."""
        before = DRAFT if drafts and self.local else ""
        found = (NAME.fullmatch(name.removeprefix(before)) for name in self.names() if name.startswith(before))
        return sorted(int(match[1]) for match in found if match)

    def names(self, *folder: str) -> list[str]:
        """The names in a folder; none where there is no such folder."""
        from pyarrow.fs import FileSelector

        infos = self.files.get_file_info(FileSelector(self.at(*folder), allow_not_found=True))
        return sorted(info.base_name for info in infos)

    def whole(self, *folder: str) -> bool:
        """Whether a folder is a whole checkpoint: its manifest is written last."""
        return MANIFEST in self.names(*folder)

    def make(self, *folder: str) -> None:
        """Make a folder, if it is not there."""
        self.files.create_dir(self.at(*folder), recursive=True)

    def remove(self, *folder: str) -> None:
        """Remove a folder with all that is in it, if it is there; its manifest first, so that no part of it is taken for one."""
        names = self.names(*folder)
        if MANIFEST in names:
            self.files.delete_file(self.at(*folder, MANIFEST))
        if names or folder[-1] in self.names(*folder[:-1]):
            self.files.delete_dir(self.at(*folder))

    @contextmanager
    def writing(self, *names: str) -> Iterator[IO[bytes]]:
        """A file to write into. It is on the disk when the context ends; in an object store it appears then."""
        with self.files.open_output_stream(self.at(*names), compression=None) as stream:
            yield stream
        self.sync(*names)

    def write(self, data: bytes, *names: str) -> None:
        """Write a small file."""
        if not self.local:
            with self.writing(*names) as stream:
                stream.write(data)
            return
        draft = Path(self.at(*names[:-1], f".{names[-1]}"))
        draft.write_bytes(data)
        draft.replace(self.at(*names))  # whoever looks for it finds it whole
        self.sync(*names)

    def read(self, *names: str) -> bytes:
        """A small file. FileNotFoundError when it is not there."""
        with self.files.open_input_stream(self.at(*names), compression=None) as stream:
            data: bytes = stream.read()
        return data

    def chunks(self, *names: str) -> Iterator[bytes]:
        """A file, piece by piece."""
        with self.files.open_input_stream(self.at(*names), compression=None) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk

    def open(self, *names: str) -> IO[bytes]:
        """A file to read at any place."""
        file: IO[bytes] = self.files.open_input_file(self.at(*names))
        return file

    def records(self, name: str) -> dict[str, dict[str, Any]]:
        """What the writers of a draft's parts have said, by the names of the parts."""
        draft = self.draft(name)
        names = [each for each in self.names(draft) if each.endswith(".json") and each != MANIFEST and not each.startswith(".")]
        return {f"{each.removesuffix('.json')}.npz": json.loads(self.read(draft, each)) for each in names}

    def publish(self, name: str, manifest: bytes) -> None:
        """Make a checkpoint of a draft."""
        draft = self.draft(name)
        self.write(manifest, draft, MANIFEST)
        if self.local:
            self.sync(draft)
            os.replace(self.at(draft), self.at(name))
            self.sync()

    def sync(self, *names: str) -> None:
        """Have a file or a folder on the disk, where that can be asked for."""
        if self.local:
            file = os.open(self.at(*names), os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
