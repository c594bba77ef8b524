"""Keras models on any file system that Spark can write: ``file:``, ``hdfs:``, ``s3a:`` and all others of Hadoop's."""

import contextlib
import json
import re
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore.errors import ModelError, expected
from spark_bridge.ranks import session

if TYPE_CHECKING:
    import keras
    from pyspark.sql import SparkSession

__all__ = ["Place", "load_model", "save_model"]

FILE = "model.keras"
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
LOCAL = "org.apache.hadoop.fs.LocalFileSystem"
ARCHIVE = b"PK\x03\x04"  # a zip file, of which Keras' first member is:
MEMBER = b"metadata.json"


def save_model(model: "keras.Model", path: str | Path, spark: "SparkSession | None" = None, overwrite: bool = False) -> None:
    """Write a model to ``path``, in Keras' own format.

    Nobody sees a part of it: it is copied beside the path, and then renamed. spark: the session whose settings count; the active
    one, or a new one, by default. FileExistsError when something is there, unless overwrite: then a Keras model is replaced, and
    nothing else.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise ModelError(expected("a Keras model", type(model).__name__, "Pass the model that train returned."))
    place = Place(path, spark)
    if place.exists():
        if not overwrite:
            raise FileExistsError(expected(f"no file at {path}", "one", "Pass overwrite=True to replace it."))
        if place.is_folder() or not is_model(place.head(len(ARCHIVE) + 26 + len(MEMBER))):
            received = "a folder" if place.is_folder() else "a file of another kind"
            raise FileExistsError(expected(f"a Keras model at {path} to replace", received, "Remove it yourself, or choose another path."))
    with tempfile.TemporaryDirectory() as directory:
        model.save(Path(directory, FILE))
        place.put(Path(directory, FILE))


def load_model(path: str | Path, spark: "SparkSession | None" = None, **options: Any) -> "keras.Model":
    """Read a model that `save_model`, or Keras, wrote; FileNotFoundError when there is none.

    options: as for ``keras.saving.load_model``; its custom layers must be known to the calling process.
    """
    import keras

    place = Place(path, spark)
    if not place.exists():
        raise FileNotFoundError(expected(f"a model at {path}", "nothing", "save_model writes one."))
    if place.is_folder():
        raise IsADirectoryError(expected(f"a model at {path}", "a folder", "Name the file in it; stages are read by their load()."))
    with tempfile.TemporaryDirectory() as directory:
        place.get(Path(directory, FILE))
        return keras.saving.load_model(Path(directory, FILE), **options)


def is_model(head: bytes) -> bool:
    """Whether a file begins as Keras' do."""
    return head.startswith(ARCHIVE) and head.endswith(MEMBER)


class Place:
    """A path on a file system of Hadoop's. What looks like no URI is a plain path, with whatever characters."""

    def __init__(self, path: str | Path, spark: "SparkSession | None"):
        from py4j.java_gateway import is_instance_of

        self.spark = session(spark)
        jvm: Any = self.spark.sparkContext._jvm
        self.java = jvm.org.apache.hadoop.fs.Path
        text = str(path)
        plain = SCHEME.match(text) is None and ":" in text.partition("/")[0]
        named = self.java(f"./{text}" if plain else text)
        # Not of the context alone: the session may have settings of its own.
        self.system = named.getFileSystem(self.spark._jsparkSession.sessionState().newHadoopConf())
        self.path = self.system.makeQualified(named)
        if is_instance_of(self.spark.sparkContext._gateway, self.system, LOCAL):  # no colon can be in names of its files of checksums
            self.system = self.system.getRawFileSystem()

    def __str__(self) -> str:
        return str(self.path.toString())

    def __truediv__(self, name: str) -> "Place":
        return type(self)(f"{self}/{name}", self.spark)

    def exists(self) -> bool:
        return bool(self.system.exists(self.path))

    def is_folder(self) -> bool:
        return self.exists() and self.system.getFileStatus(self.path).isDirectory()

    def names(self) -> list[str]:
        """Of what is in a folder."""
        return sorted(status.getPath().getName() for status in self.system.listStatus(self.path))

    def head(self, size: int) -> bytes:
        """The first bytes of a file."""
        stream = self.system.open(self.path)
        try:
            return bytes(stream.readNBytes(size))
        finally:
            stream.close()

    def put(self, local: Path) -> None:
        """Have a copy of a local file or folder here, whole or not at all; what was here is gone only then."""
        self.system.mkdirs(self.path.getParent())
        with self.beside() as draft, self.beside() as old:
            self.system.copyFromLocalFile(False, True, self.local(local), draft)
            replaced = self.exists()
            if replaced and not self.system.rename(self.path, old):  # most of them rename to no name that is taken
                raise self.refusal(self.path, old)
            if not self.system.rename(draft, self.path):
                if replaced:
                    self.system.rename(old, self.path)
                raise self.refusal(draft, self.path)
        self.system.delete(self.java(f"{self.path.getParent().toString()}/.{self.path.getName()}.crc"), False)  # of what was here

    @contextlib.contextmanager
    def beside(self) -> Iterator[Any]:
        """A path that is free, in the same folder; what is there in the end is removed."""
        # Of one string: of two Java would take what is before a colon for a scheme.
        path = self.java(f"{self.path.getParent().toString()}/.{self.path.getName()}-{uuid.uuid4().hex}")
        try:
            yield path
        finally:
            self.system.delete(path, True)

    def refusal(self, one: Any, two: Any) -> OSError:
        return OSError(expected(f"to rename {one.toString()} to {two.toString()}", "a refusal", "Somebody else may be writing there."))

    def get(self, local: Path) -> None:
        """Copy what is here to a local file."""
        self.system.copyToLocalFile(False, self.path, self.local(local), True)  # True: without a file of its checksum

    def local(self, path: Path) -> Any:
        """A local file: Hadoop, unlike a URI, takes each character as it is."""
        return self.java(f"file://{path.absolute()}")

    def metadata(self) -> dict[str, Any]:
        """What the stage that is saved here says of itself; empty when none is."""
        folder = self / "metadata"
        if not folder.is_folder():
            return {}
        parts = [name for name in folder.names() if name.startswith("part-")]
        with tempfile.TemporaryDirectory() as directory:
            for name in parts:
                (folder / name).get(Path(directory, "part"))
                with contextlib.suppress(ValueError):  # an empty part, or somebody else's
                    metadata = json.loads(Path(directory, "part").read_text())
                    if isinstance(metadata, dict) and "class" in metadata:
                        return metadata
        return {}
