"""How fast do the rows of a DataFrame reach the batches of a rank, in the first epoch and in later ones?

Rows of 784 float32 and a label, batches of 32, shuffled. First epoch: a cached DataFrame, `local[2]`, from Spark's job to the
last batch that the two tasks take. It is compared with the same job whose tasks only read the Arrow stream that Spark sends
them, and with a read of an Arrow IPC file with the same bytes. Later epochs: compared with that read, into memory, of the
file that ingest wrote, and with a copy of the mapped file into batches in the file's own order.
"""

import time
from importlib.util import find_spec

import numpy as np
import pytest

from bench.harness.case import Case
from bench.harness.crew import Crew
from bench.subjects.sparked import BATCH, first_epoch, local_spark, only_read

ROWS, QUICK_ROWS = 60_000, 6_000
JAX = {"KERAS_BACKEND": "jax"}


def cases(quick: bool) -> list[Case]:
    rows, rounds = (QUICK_ROWS, 3) if quick else (ROWS, 15)
    first = Case("spark_ingest_vs_arrow/first", "spark_ingest_vs_file/first", "spark_ingest_gbps/first", rows=rows, rounds=rounds)
    later = Case("spark_ingest_vs_arrow/later", "spark_ingest_vs_mapped/later", "spark_ingest_gbps/later", rows=rows, rounds=rounds)
    return [first, later]


def bench_spark_ingest(case, turns, quick):
    if find_spec("jax") is None:
        pytest.skip("jax is not installed: pip install 'dkcore[jax]'")
    if case.keys[0].endswith("first") and find_spec("pyspark") is None:
        pytest.skip("pyspark is not installed: pip install 'dkcore[spark]'")
    with Crew(1, "bench.subjects.ingested:Ingested", case.rows, BATCH, environment=JAX, cores="all") as crew:
        [size], [shared] = crew.ask("bytes"), crew.ask("shared")
        (first if case.keys[0].endswith("first") else later)(case, turns, crew, size, f"{size / 1e6:.0f} MB, {shared:.0%} in shared memory")


def first(case, turns, crew, size: int, note: str) -> None:
    from pyspark.sql import functions

    from spark_bridge.columns import Columns

    with local_spark() as spark:
        numbers = functions.transform(functions.sequence(functions.lit(0), functions.lit(783)), lambda place: place + functions.col("id"))
        frame = spark.range(0, case.rows, 1, 2).select(numbers.cast("array<float>").alias("features"), functions.col("id").alias("label"))
        frame = frame.cache()
        tasks = {"ingest": first_epoch(Columns().plan()), "arrow": only_read}

        def job(task) -> tuple[int, float]:
            told = Columns().project(frame).mapInArrow(task, "rows bigint, total double").collect()
            return sum(row.rows for row in told), sum(row.total for row in told)

        def verify() -> None:
            assert job(tasks["arrow"])[0] == case.rows
            assert job(tasks["ingest"]) == (case.rows, case.rows * (case.rows - 1) / 2), "an epoch lost or doubled rows"

        sides = {name: lambda task=task: seconds(lambda: job(task)) for name, task in tasks.items()}
        found = turns(sides | {"file": lambda: crew.seconds("read")}, rounds=case.rounds, verify=verify)
    note = f"{note}; Spark alone {np.median(size / 1e9 / found['arrow']):.2f} GB/s"
    turns.figure(case.keys[0], found["arrow"] / found["ingest"], note=f"tasks that only read what Spark sends; {note}")
    turns.figure(case.keys[1], found["file"] / found["ingest"], note="a read of an Arrow IPC file, without Spark")
    turns.figure(case.keys[2], size / 1e9 / found["ingest"], unit="GB/s", note="cached DataFrame to batches")


def later(case, turns, crew, size: int, note: str) -> None:
    sides = {name: lambda name=name: crew.seconds(name) for name in ("epoch", "read", "copy")}
    found = turns(sides, rounds=case.rounds, verify=lambda: crew.ask("verify"))
    turns.figure(case.keys[0], found["read"] / found["epoch"], note=f"a read of the Arrow IPC file into memory; {note}")
    turns.figure(case.keys[1], found["copy"] / found["epoch"], note="the mapped file, copied into batches in order")
    turns.figure(case.keys[2], size / 1e9 / found["epoch"], unit="GB/s", note="shuffled, batches of 32")


def seconds(function) -> float:
    """How long it takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
