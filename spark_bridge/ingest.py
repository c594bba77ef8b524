"""From the Arrow batches of a Spark task to files that a rank maps: memory stays bounded, however large the partition is."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dkcore.arrays import Array
from dkcore.data.arrays import leaves
from dkcore.data.arrow_columns import describe
from dkcore.data.arrow_writer import Store
from dkcore.data.shm_budget import Room
from dkcore.errors import DataError, expected
from spark_bridge.arrow import to_numpy
from spark_bridge.signature import fits

__all__ = ["Ingested", "agree", "ingest"]


class Ingested:
    """The rows of one partition, in files. A context manager: they are removed when it ends, so keep it while the rank runs.

    result: partition, rows, test_rows, bytes, shared_bytes (how many of them are in shared memory), files of each part, columns
    (dtype and shape of an element of each; empty without rows), validation (whether rows may be held out).
    """

    def __init__(self, directory: Path, plan: dict[str, Any], partition: int, room: Room):
        self.directory, self.plan, self.partition = directory, plan, partition
        self.validation = plan["flag"] is not None or plan["fraction"] > 0
        self.parts = {part: Store(directory, part, room) for part in (("train", "test") if self.validation else ("train",))}
        self.names = list(dict.fromkeys(name for _, name in leaves(plan["structure"])))
        self.draws = np.random.default_rng([plan["seed"], partition])
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.rows = 0

    def append(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch."""
        if batch.num_rows == 0:
            return
        columns = {name: self.numbers(batch, name) for name in self.names}
        held_out = self.held_out(batch)
        self.rows += batch.num_rows
        if held_out is None:
            self.parts["train"].append(columns)
            return
        for part, chosen in (("train", ~held_out), ("test", held_out)):
            if chosen.all():
                self.parts[part].append(columns)
            elif chosen.any():
                self.parts[part].append({name: column[chosen] for name, column in columns.items()})

    def numbers(self, batch: pa.RecordBatch, name: str) -> Array:
        """A column, floats as those that Keras computes with; DataError when its rows are not like those before."""
        array = to_numpy(batch.column(name), name, first=self.rows, partition=self.partition)
        shape = self.shapes.setdefault(name, array.shape[1:])
        if array.shape[1:] != shape:
            place = f"{array.shape[1:]} from row {self.rows} of partition {self.partition} on"
            raise DataError(expected(f"arrays of shape {shape} in column {name!r}", place, "Pad or crop them to one shape."))
        if 0 in shape:
            place = f"shape {shape} in row {self.rows} of partition {self.partition}"
            raise DataError(expected(f"elements in column {name!r}", place, "Drop the row, or fill it."))
        port, wanted = self.plan.get("wanted", {}).get(name, (None, shape))
        if not fits(shape, wanted):
            what = f"elements of shape {tuple(wanted)} in column {name!r}, as the model's input {port!r} is"
            place = f"shape {shape} in row {self.rows} of partition {self.partition}"
            raise DataError(expected(what, place, "Reshape the column, or make the model for it."))
        return array.astype(self.plan["floats"], copy=False) if array.dtype.kind == "f" else array

    def held_out(self, batch: pa.RecordBatch) -> Array | None:
        """Which rows are for validation; None when all are for training."""
        if self.plan["flag"] is not None:
            return to_numpy(batch.column(self.plan["flag"]), self.plan["flag"])
        return self.draws.random(batch.num_rows) < self.plan["fraction"] if self.plan["fraction"] else None

    def finish(self) -> None:
        """All rows have come."""
        for store in self.parts.values():
            store.finish()
        train, *others = self.parts.values()
        columns = train.columns or next((store.columns for store in others), {})
        files = {part: store.files for part, store in self.parts.items()}
        structure = {f"{key}_{part}": names for part in self.parts for key, names in self.plan["structure"].items()}
        describe(self.directory, structure, columns, files)
        self.result: dict[str, Any] = {
            "partition": self.partition,
            "rows": train.rows,
            "test_rows": sum(store.rows for store in others),
            "bytes": sum(store.bytes for store in self.parts.values()),
            "shared_bytes": sum(store.shared_bytes for store in self.parts.values()),
            "files": files,
            "columns": columns,
            "validation": self.validation,
        }

    def close(self) -> None:
        """Remove the files."""
        for store in self.parts.values():
            store.close()

    def __enter__(self) -> "Ingested":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def ingest(
    batches: Iterable[pa.RecordBatch],
    plan: dict[str, Any],
    directory: Path | str,
    *,
    partition: int = 0,
    shared: Path | str = "/dev/shm",
) -> Ingested:
    """Put the rows of a partition into files, and a description of them into the directory, which a rank takes for its data.

    plan: of `spark_bridge.columns.Columns.plan`. partition: its number, for messages and for the draws of a validation
    fraction. shared: the file system in memory; what does not go there goes into the directory. DataError names column and row.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    ingested = Ingested(directory, plan, partition, Room(Path(shared)))
    try:
        for batch in batches:
            ingested.append(batch)
        ingested.finish()
    except BaseException:
        ingested.close()
        raise
    return ingested


def agree(results: list[dict[str, Any]]) -> None:
    """DataError when partitions have columns of different shapes, when none has rows, or none that were to be held out."""
    filled = [result for result in results if result["columns"]]
    if not sum(result["rows"] for result in results):
        raise DataError(expected("rows to train on", "none in any partition", "The DataFrame is empty, or the fraction near 1."))
    first = filled[0]
    for other in filled[1:]:
        for name, column in first["columns"].items():
            if other["columns"][name] != column:
                what = f"{shown(column)} in column {name!r}, as in partition {first['partition']}"
                received = f"{shown(other['columns'][name])} in partition {other['partition']}"
                raise DataError(expected(what, received, "Pad or crop the arrays to one shape."))
    if first["validation"] and not sum(result["test_rows"] for result in results):
        raise DataError(expected("rows to validate on", "none in any partition", "Pass a larger fraction, or a DataFrame with rows."))


def shown(column: dict[str, Any]) -> str:
    return f"{column['dtype']} of shape {tuple(column['shape'])}"
