"""Keras models on any file system that Spark can write: ``file:``, ``hdfs:``, ``s3a:`` and all others of Hadoop's."""

import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore.errors import ModelError, expected
from spark_bridge.ranks import session

if TYPE_CHECKING:
    import keras
    from pyspark.sql import SparkSession

__all__ = ["load_model", "save_model"]

FILE = "model.keras"


def save_model(model: "keras.Model", path: str | Path, spark: "SparkSession | None" = None, overwrite: bool = False) -> None:
    """Write a model to ``path``, in Keras' own format.

    Nobody sees a part of it: it is copied beside the path, and then renamed. spark: the session whose settings count; the active
    one, or a new one, by default. FileExistsError when something is there, unless overwrite: then it is gone for the moment of the
    renaming.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise ModelError(expected("a Keras model", type(model).__name__, "Pass the model that train returned."))
    place = Place(path, spark)
    if place.exists() and not overwrite:
        raise FileExistsError(expected(f"no file at {path}", "one", "Pass overwrite=True to replace it."))
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
    with tempfile.TemporaryDirectory() as directory:
        place.get(Path(directory, FILE))
        return keras.saving.load_model(Path(directory, FILE), **options)


class Place:
    """A path on a file system of Hadoop's."""

    def __init__(self, path: str | Path, spark: "SparkSession | None"):
        spark = session(spark)
        self.java = spark.sparkContext._jvm.org.apache.hadoop.fs.Path
        self.path = self.java(str(path))
        # Not of the context alone: the session may have settings of its own.
        self.system = self.path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())

    def exists(self) -> bool:
        return self.system.exists(self.path)

    def put(self, local: Path) -> None:
        """Have a copy of a local file here, whole or not at all."""
        draft = self.java(self.path.getParent(), f".{self.path.getName()}-{uuid.uuid4().hex}")
        try:
            self.system.copyFromLocalFile(False, True, self.java(local.as_uri()), draft)
            self.system.delete(self.path, True)  # most of them rename to no name that is taken
            if not self.system.rename(draft, self.path):
                raise OSError(expected(f"to rename {draft.toString()} to {self.path.toString()}", "a refusal", "Is somebody else writing?"))
        finally:
            self.system.delete(draft, False)

    def get(self, local: Path) -> None:
        """Copy what is here to a local file."""
        self.system.copyToLocalFile(False, self.path, self.java(local.as_uri()), True)  # True: without a file of its checksum
