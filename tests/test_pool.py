"""Ranks that have each their own rows, in directories of their own, as Spark's tasks give them."""

import contextlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ranks import mpirun

from dkcore import outcome
from dkcore.job import Job
from spark_bridge.columns import Columns
from spark_bridge.ingest import agree, ingest

RANK = str(Path(__file__).with_name("pool_rank.py"))
MODEL = """
import keras
def made():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
"""


def batches(first: int, rows: int):
    """Rows whose label is their number."""
    numbers = np.arange(first, first + rows)
    x = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(numbers % 2, 3).astype("float32")), 3).cast(pa.list_(pa.float32()))
    yield pa.RecordBatch.from_arrays([x, pa.array(numbers)], ["features", "label"])


@contextlib.contextmanager
def job(base: Path, sizes: list[int], fraction: float | None = 0.3, **settings):
    """Directories of ranks with so many rows each, numbered through."""
    (base / "model.py").write_text(MODEL)
    plan = Columns().plan(fraction)
    with contextlib.ExitStack() as stack:
        parts = []
        for rank, rows in enumerate(sizes):
            told = {"workers": len(sizes), "backend": "jax", "model": f"{base / 'model.py'}:made", "loss": "mae", "epochs": 2}
            Job(**(told | {"window": 3, "batch_size": 4} | settings)).save(base / str(rank))
            parts.append(stack.enter_context(ingest(batches(sum(sizes[:rank]), rows), plan, base / str(rank) / "data", partition=rank)))
        agree([part.result for part in parts])
        yield [part.result for part in parts]


def told(base: Path, ranks: int) -> list[dict]:
    return [json.loads((base / str(rank) / "told.json").read_text()) for rank in range(ranks)]


def check(base: Path, sizes: list[int], parts: list[dict]) -> None:
    """Every row was trained on or held out, once, and the model and the report are there."""
    ranks = told(base, len(sizes))
    trained = [row for rank in ranks for row in rank["train"]]
    assert sorted(trained + (ranks[0]["test"] or [])) == list(range(sum(sizes)))
    assert len(trained) == sum(part["rows"] for part in parts)
    assert all(rank["test"] is None for rank in ranks[1:])
    for rank in range(1, len(sizes)):
        for file in (base / str(rank)).glob("rank-*"):
            shutil.copy(file, base / "0")
    summary, _ = outcome.collect(Job.load(base / "0"))
    assert summary["samples"] == 2 * len(trained)
    assert (summary["test_loss"] is not None) == (ranks[0]["test"] is not None)
    assert outcome.trained_model(Job.load(base / "0")).count_params()


@pytest.mark.parametrize("rule", ["adag", "averaging"])
def test_ranks_of_one_node_pool_their_rows(tmp_path, rule):
    sizes = [40, 0, 61]
    with job(tmp_path, sizes, rule=rule) as parts:
        done = mpirun("mpich", sys.executable, RANK, str(tmp_path), ranks=3, timeout=120, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    check(tmp_path, sizes, parts)
    ranks = told(tmp_path, 3)
    assert max(len(rank["train"]) for rank in ranks) - min(len(rank["train"]) for rank in ranks) <= 1


@pytest.mark.parametrize("rule", ["adag", "averaging"])
def test_a_rank_without_rows_trains_nothing_and_takes_part(tmp_path, rule):
    sizes = [0, 1]
    with job(tmp_path, sizes, None, rule=rule) as parts:
        done = mpirun("mpich", sys.executable, RANK, str(tmp_path), timeout=120, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    check(tmp_path, sizes, parts)
    assert sorted(len(rank["train"]) for rank in told(tmp_path, 2)) == [0, 1]
