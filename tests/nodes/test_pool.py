"""Ranks that have each their own rows, in directories of their own, as Spark's tasks give them."""

import contextlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from mpi_ranks import mpirun

from dkcore.training import results
from dkcore.training.job import Job
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
def job(base: Path, sizes: list[int], fraction: float | None = 0.3, shared: str = "/dev/shm", agreed: bool = True, **settings):
    """Directories of ranks with so many rows each, numbered through; what came of their ingest."""
    (base / "model.py").write_text(MODEL)
    plan = Columns().plan(fraction)
    with contextlib.ExitStack() as stack:
        parts = []
        for rank, rows in enumerate(sizes):
            told = {"workers": len(sizes), "backend": "jax", "model": f"{base / 'model.py'}:made", "loss": "mae", "epochs": 2}
            Job(**(told | {"window": 3, "batch_size": 4} | settings)).save(base / str(rank))
            data, where = batches(sum(sizes[:rank]), rows), base / str(rank) / "data"
            parts.append(stack.enter_context(ingest(data, plan, where, partition=rank, shared=shared)))
        if agreed:
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
    summary, _ = results.collect(Job.load(base / "0"))
    assert summary["samples"] == 2 * len(trained)
    assert (summary["test_loss"] is not None) == (ranks[0]["test"] is not None)
    assert results.trained_model(Job.load(base / "0")).count_params()


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


@pytest.mark.parametrize("sizes", [[40, 61], [0, 61]])
def test_ranks_that_do_not_see_each_other_s_files_keep_to_their_own(tmp_path, sizes):
    """Rank 0 evaluates on what is held out anywhere, even when it has no rows to train on."""
    with job(tmp_path, sizes, shared="/nowhere") as parts:
        done = mpirun("mpich", sys.executable, RANK, str(tmp_path), "blind", timeout=120, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    check(tmp_path, sizes, parts)
    assert [len(rank["train"]) for rank in told(tmp_path, 2)] == [part["rows"] for part in parts]
    assert [rank["node"] for rank in told(tmp_path, 2)] == [0, 1]


def test_nodes_pool_what_is_theirs_and_send_rank_0_what_is_held_out(tmp_path, two_nodes):
    sizes = [40, 31, 0, 200]
    with job(tmp_path, sizes, shared="/nowhere") as parts:
        done = two_nodes.run("mpich", RANK, str(tmp_path), ranks_per_node=2, timeout=120, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    check(tmp_path, sizes, parts)
    lengths = [len(rank["train"]) for rank in told(tmp_path, 4)]
    assert sum(lengths[:2]) == parts[0]["rows"] + parts[1]["rows"] and sum(lengths[2:]) == parts[3]["rows"]
    assert abs(lengths[0] - lengths[1]) <= 1 and abs(lengths[2] - lengths[3]) <= 1
    assert len(list((tmp_path / "0" / "data").glob("test-of-rank-3-*"))) == 1


def test_no_rows_at_all_are_refused(tmp_path):
    with job(tmp_path, [0, 0], None, agreed=False):
        done = mpirun("mpich", sys.executable, RANK, str(tmp_path), timeout=120, KERAS_BACKEND="jax")
    assert done.returncode != 0
    assert "Expected rows on any rank. Received: none." in done.stderr
