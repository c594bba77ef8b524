"""From DataFrames into files, and out of them into batches: every row, once, in bounded memory."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dkcore.data.arrays import read
from dkcore.data.batches import dataset
from dkcore.data.shard import Shard
from dkcore.errors import DataError
from spark_bridge.columns import Columns
from spark_bridge.ingest import agree, ingest

ROWS, PARTITIONS, BATCH = 100_000, 3, 17


def store(df, plan, base):
    """Ingest a projected DataFrame as tasks do, into a directory a partition; their results. The files stay, on disk."""

    def task(batches):
        from pyarrow import RecordBatch, array
        from pyspark import TaskContext

        partition = TaskContext.get().partitionId()
        ingested = ingest(batches, plan, base / str(partition), partition=partition, shared="/nowhere")
        yield RecordBatch.from_arrays([array([json.dumps(ingested.result)])], ["result"])

    return [json.loads(row.result) for row in df.mapInArrow(task, "result string").collect()]


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_once_an_epoch_whatever_the_batch(spark, tmp_path, shuffle):
    df = spark.range(0, ROWS, 1, PARTITIONS).selectExpr("array(cast(id as double), -id) features", "id label")
    columns = Columns()
    results = store(columns.project(df), columns.plan(), tmp_path)
    agree(results)
    assert [result["partition"] for result in results] == [0, 1, 2]
    datasets = [dataset(Shard(tmp_path / str(partition)), "jax", BATCH, shuffle=shuffle) for partition in range(PARTITIONS)]
    for _ in range(2):
        seen = []
        for batches in datasets:
            for index in range(len(batches)):
                x, y = batches[index]
                assert x.dtype == np.float32 and (x[:, 0] == y).all() and (x[:, 1] == -y).all()
                seen.append(y)
            batches.on_epoch_end()
        assert (np.sort(np.concatenate(seen)) == np.arange(ROWS)).all()
    assert list(read(tmp_path / "0")) == ["x_train", "y_train"]


def batch(**columns):
    return pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in columns.items()})


def rows_of(directory, part="train"):
    """The rows of a part, as a list for each of x, y and weight."""
    shard = Shard(directory, part=part)
    return [array[shard.rows(shuffle=False)].tolist() for array in shard.arrays]


BAD = [
    ([batch(x=[1.0, 2.0]), batch(x=[3.0, None])], "no null in column 'x'. Received: one in row 3 of partition 5"),
    ([batch(x=[[1.0]]), batch(x=[[2.0], None])], "no null in column 'x'. Received: one in row 2 of partition 5"),
    ([batch(x=[[[1, 2]], [[3, None]]])], "no null in column 'x'. Received: one in row 1 of partition 5"),
    ([batch(x=[[1, 2], [3]])], "'x'. Received: 1 elements, where the rows before have 2 in row 1 of partition 5"),
    ([batch(x=[[1, 2]]), batch(x=[]), batch(x=[[1], [2]])], r"shape \(2,\) in column 'x'. Received: .* row 1 of partition 5"),
    ([batch(x=pa.array([[], []], pa.list_(pa.float32())))], "elements in column 'x'. Received: .*in row 0 of partition 5"),
]


@pytest.mark.parametrize(("batches", "message"), BAD)
def test_nulls_and_ragged_arrays_are_named(tmp_path, batches, message):
    with pytest.raises(DataError, match=message):
        ingest(batches, Columns("x", "x").plan(), tmp_path, partition=5)
    assert not list(tmp_path.iterdir())


def test_numbers_of_all_kinds(tmp_path):
    first = batch(a=[[[1.5, 2.0], [3.0, 4.0]]], b=[True], c=pa.array([7], pa.int8()), w=[0.1])
    second = batch(a=[[[5.0, 6.0], [7.0, 8.0]]], b=[False], c=pa.array([8], pa.int8()), w=[0.2])
    plan = Columns({"image": "a", "flag": "b"}, ["c", "a"], "w").plan()
    with ingest([first, second], plan, tmp_path) as data:
        assert data.result["columns"]["b"] == {"dtype": "bool", "shape": []}
        found = read(tmp_path)
        assert [found["x_train"][name].dtype.name for name in ("image", "flag")] == ["float32", "bool"]
        assert found["x_train"]["image"].shape == (2, 2, 2)
        assert [leaf.dtype.name for leaf in (*found["y_train"], found["sample_weight_train"])] == ["int8", "float32", "float32"]
        assert found["x_train"]["flag"][np.arange(2)].tolist() == [True, False]
    with ingest([first], Columns("a", "c").plan(floats="float64"), tmp_path) as data:
        assert data.result["columns"]["a"] == {"dtype": "float64", "shape": [2, 2]}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_fraction_is_drawn_by_row_whatever_the_batches(tmp_path, size):
    plan = Columns("x", "x").plan(0.25, seed=3)
    batches = [batch(x=list(range(start, min(start + size, 1000)))) for start in range(0, 1000, size)]
    with ingest(batches, plan, tmp_path / "a", partition=1) as data:
        held_out = rows_of(tmp_path / "a", "test")[0]
        assert (data.result["rows"], data.result["test_rows"]) == (1000 - len(held_out), len(held_out))
        assert sorted(rows_of(tmp_path / "a")[0] + held_out) == list(range(1000))
        assert 200 < len(held_out) < 300
        assert held_out == [row for row, drawn in enumerate(np.random.default_rng([3, 1]).random(1000)) if drawn < 0.25]
    for other in ({"seed": 4, "partition": 1}, {"seed": 3, "partition": 2}):
        with ingest(batches, plan | {"seed": other["seed"]}, tmp_path / "b", partition=other["partition"]):
            assert rows_of(tmp_path / "b", "test")[0] != held_out


def test_flagged_rows_are_held_out(spark, tmp_path):
    columns, held_out = Columns("id", "id"), spark.range(100, 130)
    df = columns.project(spark.range(100), held_out).repartition(3)
    results = store(df, columns.plan(held_out), tmp_path)
    agree(results)
    assert (sum(result["rows"] for result in results), sum(result["test_rows"] for result in results)) == (100, 30)
    parts = {part: [row for rank in range(3) for row in rows_of(tmp_path / str(rank), part)[0]] for part in ("train", "test")}
    assert sorted(parts["train"]) == list(range(100)) and sorted(parts["test"]) == list(range(100, 130))


def test_vectors_images_and_empty_partitions_of_a_dataframe(spark, tmp_path):
    from pyspark.ml.linalg import Vectors

    rows = [(Vectors.sparse(4, [row % 4], [1.0]), [[row, 2], [3, 4]], row) for row in range(10)]
    df = spark.createDataFrame(spark.sparkContext.parallelize(rows, 12), ["v", "image", "label"])
    columns = Columns(["v", "image"])
    results = store(columns.project(df), columns.plan(), tmp_path)
    agree(results)
    assert sorted(result["rows"] for result in results) == [0] * 2 + [1] * 10
    for result in filter(lambda result: result["rows"], results):
        (vector, image), label = Shard(tmp_path / str(result["partition"])).arrays
        [row] = label[np.arange(1)]
        assert vector.dtype == np.float32
        assert vector[np.arange(1)].tolist() == [np.eye(4)[row % 4].tolist()]
        assert image[np.arange(1)].tolist() == [[[row, 2], [3, 4]]]


def test_partitions_must_agree(tmp_path):
    def result(number, *batches, fraction=None):
        with ingest(batches, Columns("x", "x").plan(fraction), tmp_path, partition=number) as data:
            return data.result

    vector, other, longer = batch(x=[[1.0, 2.0]] * 9), batch(x=[[1, 2]]), batch(x=[[1.0] * 3])
    agree([result(0), result(1, vector), result(2, vector)])
    with pytest.raises(DataError, match=r"float32 of shape \(2,\) in column 'x', as in partition 1. Received: .*\(3,\) in partition 3"):
        agree([result(0), result(1, vector), result(3, longer)])
    with pytest.raises(DataError, match="Received: int64 of shape"):
        agree([result(1, vector), result(3, other)])
    with pytest.raises(DataError, match="rows to train on"):
        agree([result(0), result(1)])
    agree([result(0, fraction=0.5), result(1, vector, fraction=0.5)])
    with pytest.raises(DataError, match="rows to validate on"):
        agree([result(1, vector, fraction=1e-9)])


def test_a_partition_larger_than_memory_streams(tmp_path):
    """The memory that ingest takes does not depend on how many rows come."""
    numbers = np.random.default_rng(0).random(1 << 17, np.float32)
    values = pa.ListArray.from_arrays(pa.array(np.arange(0, (1 << 17) + 1, 128), pa.int32()), pa.array(numbers))
    whole = pa.RecordBatch.from_arrays([values, pa.array(np.arange(1024))], ["features", "label"])
    peaks = []
    for count in (20, 400):  # of half a megabyte
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        with ingest((whole for _ in range(count)), Columns().plan(0.1), tmp_path, shared="/nowhere") as data:
            peaks.append(tracemalloc.get_traced_memory()[1] + pa.default_memory_pool().max_memory() - before)
            assert data.result["bytes"] == count * (whole.num_rows * (128 * 4 + 8))
            assert sum(os.path.getsize(file) for files in data.result["files"].values() for file in files) < 1.01 * data.result["bytes"]
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4e6 and peaks[1] < 40e6, peaks
    assert {path.name for path in Path(tmp_path).iterdir()} == {"arrays.json"}
