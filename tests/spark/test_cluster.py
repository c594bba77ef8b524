"""On a standalone cluster: where ranks are put, what they share, what they lack."""

import json
import re
import tarfile
from pathlib import Path

import pytest
from spark_settings import ROOT
from standalone import alone, needs_root, single  # noqa: F401 - fixtures

SESSION = """
import json, sys
from pyspark.sql import SparkSession
import spark_bridge
from spark_bridge.launch import Launch
spark = SparkSession.builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")
def say(value):
    print("SAID", json.dumps(value))
"""
ADD = (
    SESSION
    + """
def add():
    import os
    import numpy as np
    import dkcore as dk
    world = dk.init()
    center = dk.Center.of(np.zeros(1000), world)
    w, p = np.zeros(1000), np.zeros(1000)
    with center.worker(world.rank) as worker:
        call = worker.call(dk.rules.downpour, p=p)
        for _ in range(10):
            w += 1.0
            call.flat(w)
    center.finish()
    return {"nodes": world.nodes, "sum": float(center.snapshot().sum()), "executor": os.getcwd(), "dkcore": dk.__file__,
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
"""
)


def said(done) -> list:
    return [json.loads(line.removeprefix("SAID ")) for line in done.stdout.splitlines() if line.startswith("SAID ")]


def test_one_rank_an_executor_and_one_center_for_both(alone):  # noqa: F811
    """Two executors of two cores: two ranks go to different ones, and find that they share memory. Four ranks take all slots."""
    alone.worker()
    alone.worker()
    script = (
        ADD
        + """
from pathlib import Path
for workers in (2, None, 4):
    ranks = spark_bridge.run(add, num_workers=workers)
    say(ranks if workers == 2 else len(ranks))
say([Launch(spark, Path("."), workers, {}).placement for workers in (2, 4)])
"""
    )
    two, free, four, placements = said(alone.submit(script, conf={"spark.executor.instances": 2}))
    assert {rank["nodes"] for rank in two} == {1}
    assert len({rank["executor"] for rank in two}) == 2
    assert [rank["sum"] for rank in two] == [2 * 10 * 1000] * 2
    assert (free, four) == (2, 4)
    assert placements[0] == "one rank for each executor" and "task slot" in placements[1]


def test_executors_that_share_no_memory_merge_over_mpi(alone):  # noqa: F811
    needs_root()
    alone.worker(1)
    alone.worker(1, shared_memory="64m")
    script = (
        ADD
        + """
say(spark_bridge.run(add, num_workers=2))
import keras, numpy as np
import dkcore as dk
rng = np.random.default_rng(0)
x = rng.normal(size=(2000, 8)).astype("float32")
frame = spark.createDataFrame([(a, b) for a, b in zip(x.tolist(), (x.sum(1) > 0).astype(int).tolist())], "features array<float>, label int")
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(2, "softmax")])
trainer = dk.ADAG(model, keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", num_epoch=4, communication_window=4)
trainer.train(frame, validation_data=0.2)
say({name: trainer.report[name] for name in ("nodes", "merges", "test_accuracy", "samples")})
"""
    )
    ranks, report = said(alone.submit(script))
    assert [rank["nodes"] for rank in ranks] == [2, 2]
    assert [rank["sum"] for rank in ranks] == [2 * 10 * 1000] * 2
    assert report["nodes"] == 2 and report["merges"] > 0
    assert report["test_accuracy"] > 0.85


def test_a_rank_sees_its_own_gpu_only(single):  # noqa: F811
    conf = {"spark.executor.cores": 1, "spark.executor.resource.gpu.amount": 1, "spark.task.resource.gpu.amount": 1}
    (ranks,) = said(single.submit(ADD + "say(spark_bridge.run(add, num_workers=2))", conf=conf))
    assert sorted(rank["gpu"] for rank in ranks) == ["4", "7"]


def test_the_package_travels_in_an_archive(single):  # noqa: F811
    """As docs/spark.md has it: spark-submit --archives, and PYTHONPATH of the executors."""
    archive = single.folder / "dkcore.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for name in ("dkcore", "spark_bridge"):
            packed.add(ROOT / name, name, filter=lambda info: None if "__pycache__" in info.name else info)
    options = ("--archives", f"{archive}#site")
    done = single.submit(ADD + "say(spark_bridge.run(add, num_workers=2))", conf={"spark.executorEnv.PYTHONPATH": "site"}, options=options)
    (ranks,) = said(done)
    assert all(rank["dkcore"].startswith(str(single.folder / "worker-1")) for rank in ranks)


def bare_python(folder: Path, *, version: str = "") -> Path:
    """A Python that has all that this one has, but no dkcore, or one that says it is of another version."""
    import shutil
    import site
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next(folder.glob("lib/python3*/site-packages"))
    for entry in Path(site.getsitepackages()[0]).iterdir():
        if "dkcore" not in entry.name and not (packages / entry.name).exists():
            (packages / entry.name).symlink_to(entry)
    if version:
        for name in ("dkcore", "spark_bridge"):
            shutil.copytree(ROOT / name, packages / name)
        file = packages / "dkcore/__init__.py"
        file.write_text(file.read_text() + f'\n__version__ = "{version}"\n')
    return folder / "bin/python"


@pytest.mark.parametrize(
    ("version", "message"),
    [("", "Expected dkcore on executor .*No module named"), ("9.9", "Expected dkcore .* as on the driver. Received: 9.9")],
)
def test_an_executor_without_the_package_is_named(single, version, message, tmp_path):  # noqa: F811
    python = bare_python(tmp_path / "bare", version=version)
    env = {"PYSPARK_PYTHON": str(python)}
    done = single.submit(ADD + "spark_bridge.run(add, num_workers=2)", conf={"spark.pyspark.python": python}, check=False, env=env)
    assert done.returncode != 0
    assert re.search(f"dkcore.errors.MissingError: {message}", done.stdout), done.stdout[-3000:]


def test_too_little_shared_memory_is_found_before_ranks_start(alone):  # noqa: F811
    needs_root()
    alone.worker(2, shared_memory="1m")
    script = (
        SESSION
        + """
import keras
import dkcore as dk
model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(10000), keras.layers.Dense(2)])
frame = spark.range(100).selectExpr("array_repeat(float(id), 100) as features", "id % 2 as label")
dk.ADAG(model, loss="mse").train(frame)
"""
    )
    done = alone.submit(script, check=False)
    assert done.returncode != 0
    assert "dkcore.errors.NoRoomError: Expected 4 MB free in /dev/shm of executor" in done.stdout, done.stdout[-3000:]
    assert "emptyDir" in done.stdout


def test_dynamic_allocation_is_refused(single):  # noqa: F811
    conf = {"spark.dynamicAllocation.enabled": "true", "spark.dynamicAllocation.shuffleTracking.enabled": "true"}
    done = single.submit(ADD + "spark_bridge.run(add, num_workers=2)", conf=conf, check=False)
    assert done.returncode != 0
    assert "set spark.dynamicAllocation.enabled=false" in done.stdout, done.stdout[-3000:]


def test_no_way_to_the_driver_says_what_to_set(spark, monkeypatch):
    """A port that nobody listens on, as a firewall would have it."""
    import socket

    import spark_bridge
    from dkcore.errors import MissingError
    from spark_bridge import launch

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))

        class Astray(launch.Channel):
            def __enter__(self):
                super().__enter__()
                self.port = closed.getsockname()[1]
                return self

        monkeypatch.setattr(launch, "Channel", Astray)
        with pytest.raises(MissingError, match=r"a way from .* to the driver at 127.0.0.1:\d+.*spark.driver.host"):
            spark_bridge.run(lambda: 1, spark=spark)
