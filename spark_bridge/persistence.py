"""Stages, saved to and loaded from any file system that Spark can write."""

import tempfile
from pathlib import Path
from typing import Any

from pyspark.ml.param import Params
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReadable, MLReader, MLWritable

from dkcore.errors import DataError, expected
from spark_bridge.model_payload import FILE, SIDECAR, ModelPayload
from spark_bridge.storage import Place

__all__ = ["Kept", "WithModel"]

METADATA, KERAS = "metadata", "keras"
WRITTEN = ("_SUCCESS", FILE, SIDECAR, "history.parquet", "report.json")
OURS = __name__.partition(".")[0] + "."


class Kept(Params, MLReadable["Kept"], MLWritable):
    """A stage with Params. ``further`` names what files there may be beside them, under ``PATH/keras``."""

    further: tuple[str, ...] = ()

    def write(self) -> "Writer":
        return Writer(self)

    @classmethod
    def read(cls) -> "Reader":
        return Reader(cls)

    def write_files(self, directory: Path) -> None:
        """Put all that is no Param into a local directory."""

    def read_files(self, directory: Path) -> None:
        """Take it from there."""


class WithModel(Kept):
    """A stage with a payload."""

    payload: ModelPayload | None
    further: tuple[str, ...] = (FILE, SIDECAR)

    def write_files(self, directory: Path) -> None:
        if self.payload is not None:
            self.payload.write(directory)

    def read_files(self, directory: Path) -> None:
        if (directory / FILE).exists():
            self.payload = ModelPayload.read(directory)


class Writer(DefaultParamsWriter):
    """Writes a stage in the layout of pyspark.ml: beside its place, and then renamed. Only another stage of ours is replaced."""

    def __init__(self, instance: Kept):
        super().__init__(instance)
        self.kept = instance

    def save(self, path: str) -> None:
        place = Place(path, self.sparkSession)
        if place.exists():
            if not self.shouldOverwrite:
                advice = "Call write().overwrite().save(path) to replace it."
                raise FileExistsError(expected(f"no stage at {path}", "something that exists", advice))
            if not is_ours(place):
                advice = "Remove it yourself, or choose another path."
                raise FileExistsError(expected(f"a saved stage of spark_bridge at {path} to replace", "something else", advice))
        self.saveImpl(path)

    def saveImpl(self, path: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            whole = Path(directory, "stage")
            for name in (METADATA, KERAS):
                (whole / name).mkdir(parents=True)
            metadata = DefaultParamsWriter._get_metadata_to_save(self.instance, self.sparkSession)
            (whole / METADATA / "part-00000").write_text(metadata + "\n")
            (whole / METADATA / "_SUCCESS").touch()
            self.kept.write_files(whole / KERAS)
            if not any((whole / KERAS).iterdir()):
                (whole / KERAS).rmdir()
            Place(path, self.sparkSession).put(whole)


class Reader(MLReader[Kept]):
    """Reads a stage of that class."""

    def __init__(self, kind: type[Kept]):
        super().__init__()
        self.kind = kind

    def load(self, path: str) -> Any:
        place = Place(path, self.sparkSession)
        metadata = place.metadata()
        if not metadata:
            raise DataError(expected(f"a saved stage at {path}", "none", "write().save(path) writes one."))
        mine = f"{self.kind.__module__}.{self.kind.__name__}"
        if metadata["class"] != mine:
            raise DataError(
                expected(f"a saved {mine} at {path}", metadata["class"], f"Load it with {metadata['class'].rpartition('.')[2]}.load.")
            )
        stage = self.kind()
        stage._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(stage, metadata)
        with tempfile.TemporaryDirectory() as directory:
            for name in self.kind.further:
                file = place / KERAS / name
                if file.exists():
                    file.get(Path(directory, name))
            stage.read_files(Path(directory))
        return stage


def is_ours(place: Place) -> bool:
    """Whether there is nothing but a stage that was written here."""
    if not place.is_folder() or not set(place.names()) <= {METADATA, KERAS}:
        return False
    if not place.metadata().get("class", "").startswith(OURS):
        return False
    files = [name for folder in (METADATA, KERAS) if (place / folder).is_folder() for name in (place / folder).names()]
    return all(name.startswith("part-") or name in WRITTEN for name in files)
