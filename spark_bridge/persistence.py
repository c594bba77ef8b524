"""Stages that have a Keras model, saved to and loaded from any file system that Spark can write."""

import tempfile
from pathlib import Path
from typing import Any

from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReadable, MLWritable

from spark_bridge.parcel import FILE, SIDECAR, Parcel
from spark_bridge.storage import Place

__all__ = ["WithModel"]


class WithModel(MLReadable, MLWritable):
    """A stage with Params and a parcel, and perhaps further files.

    They lie under ``PATH/keras``, beside the metadata that pyspark.ml writes. ``further`` names what else there may be.
    """

    parcel: Parcel | None
    further: tuple[str, ...] = ()

    def write(self) -> "Writer":
        return Writer(self)

    @classmethod
    def read(cls) -> "Reader":
        return Reader(cls)

    def write_files(self, directory: Path) -> None:
        """Put all that is no Param into a local directory."""
        if self.parcel is not None:
            self.parcel.write(directory)

    def read_files(self, directory: Path) -> None:
        """Take it from there."""
        if (directory / FILE).exists():
            self.parcel = Parcel.read(directory)


class Writer(DefaultParamsWriter):
    def saveImpl(self, path: str) -> None:
        super().saveImpl(path)
        with tempfile.TemporaryDirectory() as directory:
            self.instance.write_files(Path(directory))
            for file in Path(directory).iterdir():
                Place(f"{path}/keras/{file.name}", None).put(file)


class Reader(DefaultParamsReader):
    def load(self, path: str) -> Any:
        stage = super().load(path)
        with tempfile.TemporaryDirectory() as directory:
            for name in (FILE, SIDECAR, *stage.further):
                place = Place(f"{path}/keras/{name}", None)
                if place.exists():
                    place.get(Path(directory, name))
            stage.read_files(Path(directory))
        return stage
