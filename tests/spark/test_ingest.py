"""From DataFrames into files, and out of them into batches: every row, once, in bounded memory."""

import json

import numpy as np
import pytest

from dkcore.data import Shard, read
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
    datasets = [Shard(tmp_path / str(partition)).dataset("jax", BATCH, shuffle=shuffle) for partition in range(PARTITIONS)]
    for _ in range(2):
        seen = []
        for dataset in datasets:
            for index in range(len(dataset)):
                x, y = dataset[index]
                assert x.dtype == np.float32 and (x[:, 0] == y).all() and (x[:, 1] == -y).all()
                seen.append(y)
            dataset.on_epoch_end()
        assert (np.sort(np.concatenate(seen)) == np.arange(ROWS)).all()
    assert list(read(tmp_path / "0")) == ["x_train", "y_train"]
