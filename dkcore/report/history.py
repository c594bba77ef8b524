"""What happened during a training: one record an exchange of each worker, and one an evaluation of the center."""

import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dkcore.errors import DataError, expected

if TYPE_CHECKING:
    import pyarrow

__all__ = ["CENTER", "History", "averaged_history", "executor_history", "merge", "metric_names", "notes_of", "read"]

CENTER = -1  # the "worker" of records that are evaluations of the center
FIRST = ("worker", "epoch", "step", "time", "loss")
LAST = ("staleness", "seconds")
WHOLE = {"worker": "int32", "epoch": "int32", "step": "int64"}  # all other columns are float64
Record: TypeAlias = tuple[int, int, float, Any, dict[str, Any], float | None, float | None]


class History:
    """The records of one rank, kept in memory: an append takes about a microsecond and converts nothing.

    notes: a file that each record is added to at once, for who follows when this process is killed; the records that it has already come
    first. An append takes about twenty microseconds then.
    """

    def __init__(self, notes: Path | None = None) -> None:
        self.records: list[Record] = [] if notes is None else noted(notes)
        self.notes = -1 if notes is None else os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def append(
        self,
        step: int,
        time: float,
        epoch: int,
        loss: Any = None,
        metrics: Mapping[str, Any] | None = None,
        staleness: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Note one exchange.

        step: optimizer steps of this worker so far. time: seconds since the job's start. loss, metrics: numbers, or anything
        that ``float`` makes one; metrics of several numbers are left out. staleness: the exchange's, in commits. seconds: what
        the exchange took, or the evaluation.
        DataError for a metric with the name of another column.
        """
        metrics = dict(metrics or {})
        if clash := metrics.keys() & {*FIRST, *LAST}:
            raise DataError(expected("metrics of names of their own", sorted(clash), f"Taken are {', '.join(FIRST + LAST)}."))
        self.records.append((epoch, step, time, loss, metrics, staleness, seconds))
        if self.notes >= 0:
            plain = {name: number(value) for name, value in metrics.items()}
            os.write(self.notes, (json.dumps((epoch, step, time, number(loss), plain, number(staleness), number(seconds))) + "\n").encode())

    def table(self, worker: int) -> "pyarrow.Table":
        """The records as a table: worker, epoch, step, time, loss, one column a metric, staleness, seconds; what is unknown is null."""
        import pyarrow

        names = list(dict.fromkeys(name for record in self.records for name in record[4]))
        columns: dict[str, list[float | None]] = {name: [] for name in (*FIRST, *names, *LAST)}
        for epoch, step, time, loss, metrics, staleness, seconds in self.records:
            values = dict(zip(FIRST + LAST, (worker, epoch, step, time, loss, staleness, seconds), strict=True)) | metrics
            for name, column in columns.items():
                column.append(int(values[name]) if name in WHOLE else number(values.get(name)))
        for name in names:
            if all(value is None for value in columns[name]):
                del columns[name]
        return pyarrow.table({name: pyarrow.array(column, WHOLE.get(name, "float64")) for name, column in columns.items()})

    def write(self, path: Path | str, worker: int) -> None:
        """Write the records of ``worker`` (`CENTER` for evaluations of the center) to a parquet file."""
        save(self.table(worker), path)


def notes_of(home: Path, rank: int) -> Path:
    """The file of a rank's notes in a job's directory."""
    return home / f"notes-{rank}"


def noted(path: Path) -> list[Record]:
    """The records of a file of notes; who wrote it may have died within the last line."""
    lines = path.read_text().split("\n") if path.exists() else []
    if lines and lines.pop():
        path.write_text("".join(f"{line}\n" for line in lines))
    return [tuple(json.loads(line)) for line in lines]


def number(value: Any) -> float | None:
    """The value as a float; None when it is unknown or not one number."""
    return float(np.asarray(value).item()) if value is not None and np.size(value) == 1 else None


def save(table: "pyarrow.Table", path: Path | str) -> None:
    """Write a parquet file that appears whole or not at all."""
    import pyarrow.parquet

    path = Path(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as directory:
        pyarrow.parquet.write_table(table, Path(directory) / path.name)
        os.replace(Path(directory) / path.name, path)


def read(path: Path | str) -> "pyarrow.Table":
    """The table of a history file; DataError when it is not there or is not one."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, memory_map=False)
    except (FileNotFoundError, pyarrow.ArrowInvalid) as error:
        advice = "A finished training leaves history.parquet in its directory."
        raise DataError(expected(f"a history at {path}", error, advice)) from error
    if missing := [name for name in FIRST + LAST if name not in table.column_names]:
        raise DataError(expected(f"columns {', '.join(missing)} in {path}", table.column_names, "Is it another file?"))
    return table


def merge(paths: Iterable[Path | str], out: Path | str) -> "pyarrow.Table":
    """Join the histories of ranks and center into one file, ordered by worker and step; a metric that one lacks is null."""
    import pyarrow

    paths = list(paths)
    if not paths:
        raise DataError(expected("histories to merge", "none", "Each rank writes one."))
    table = pyarrow.concat_tables([read(path) for path in paths], promote_options="default")
    names = [*FIRST, *metric_names(table), *LAST]
    table = table.select(names).sort_by([("worker", "ascending"), ("step", "ascending"), ("time", "ascending")])
    save(table, out)
    return table


def metric_names(table: "pyarrow.Table") -> list[str]:
    """The columns that are metrics, in their order."""
    return [name for name in table.column_names if name not in FIRST + LAST]


def executor_history(table: "pyarrow.Table", worker: int) -> list[dict[str, Any]]:
    """One worker's records in the order of its steps, each a dict of the table's columns.

    Each also has dist-keras' keys: ``worker_id``, ``iteration``, ``timestamp`` and ``history``, the list of loss and metrics.
    DataError when there is no such worker.
    """
    records = sorted((record for record in table.to_pylist() if record["worker"] == worker), key=lambda record: record["step"])
    if not records:
        known = sorted({value for value in table["worker"].to_pylist() if value != CENTER})
        raise DataError(expected(f"one of the workers {known}", worker, "They are counted from 0."))
    names = ["loss", *metric_names(table)]
    for record in records:
        record |= {"worker_id": worker, "iteration": record["step"], "timestamp": record["time"]}
        record["history"] = [record[name] for name in names]
    return records


def averaged_history(table: "pyarrow.Table") -> np.ndarray:
    """The mean over the workers that made a record at each step, in the order of steps; the center is no worker.

    A structured array whose fields are loss and metrics, which are ``record[0]``, ``record[1]``... as in dist-keras, then
    step, time, staleness and workers (how many were averaged). Unknown values do not count; where there is none it is NaN.
    """
    names = ["loss", *metric_names(table), "step", "time", "staleness"]
    columns = {name: table[name].to_numpy().astype(float) for name in ["worker", *names]}
    chosen = columns["worker"] != CENTER
    steps, place = np.unique(columns["step"][chosen], return_inverse=True)
    averages = np.zeros(len(steps), [(name, "i8" if name == "step" else "f8") for name in names] + [("workers", "i8")])
    averages["workers"] = np.bincount(place, minlength=len(steps))
    for name in names:
        values = columns[name][chosen]
        known = ~np.isnan(values)
        counts = np.bincount(place[known], minlength=len(steps)).astype(float)
        counts[counts == 0] = math.nan
        averages[name] = np.bincount(place[known], values[known], minlength=len(steps)) / counts
    return averages
