"""Trainers on DataFrames: real Spark, real ranks, real Keras."""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from ranks_of import left_behind

import dkcore as dk
from dkcore.errors import DataError, RankError
from spark_bridge.dataframe import RECORDS

ROWS = 3000


@pytest.fixture(scope="module")
def frame(spark):
    """Points of two classes that a line divides: x, an array of 8; y; both parts of x; one-hot y; an id."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 8)).astype("float32")
    y = (x.sum(1) > 0).astype("int64")
    rows = [(i, a, b, a[:3], a[3:], [1.0 - b, float(b)]) for i, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True))]
    schema = "id bigint, features array<float>, label bigint, left array<float>, right array<float>, hot array<float>"
    return spark.createDataFrame(rows, schema).repartition(3).cache()


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(2, activation="softmax")]
    return keras.Sequential(layers)


def accuracy(trained, frame) -> float:
    rows = frame.select("features", "label").collect()
    answers = trained.predict(np.array([row.features for row in rows]), verbose=0).argmax(1)
    return float((answers == np.array([row.label for row in rows])).mean())


@pytest.mark.parametrize("kind", [dk.ADAG, dk.DynSGD, dk.AveragingTrainer])
def test_a_trainer_takes_a_dataframe(frame, kind):
    settings = {"num_workers": 2, "num_epoch": 4, "communication_window": 4, "batch_size": 17}
    trainer = kind(model(), keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", **settings)
    trained = trainer.train(frame, shuffle=True, validation_data=0.2)
    report = trainer.report
    assert accuracy(trained, frame) > 0.9
    assert report["test_accuracy"] > 0.85
    held_out = ROWS - report["samples"] // 4
    assert report["samples"] % 4 == 0 and 0.15 * ROWS < held_out < 0.25 * ROWS
    assert report["nodes"] == 1 and report["restarts"] == 0 and "slot" in report["placement"]
    assert {record["worker"] for record in trainer.get_history()} == {0, 1}
    assert left_behind() == []


def test_a_single_worker_takes_all_rows_of_a_dataframe(frame):
    trainer = dk.SingleTrainer(model(), keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", num_epoch=2, batch_size=64)
    trained = trainer.train(frame, validation_data=frame.limit(100))
    assert accuracy(trained, frame) > 0.8
    assert trainer.report["samples"] == 2 * ROWS


def test_several_columns_are_several_inputs(frame):
    left, right = keras.Input((3,), name="a"), keras.Input((5,), name="b")
    out = keras.layers.Dense(2, activation="softmax")(keras.layers.concatenate([left, right]))
    two = keras.Model({"a": left, "b": right}, out)
    names = {"features_col": {"a": "left", "b": "right"}, "label_col": "hot"}
    trainer = dk.ADAG(two, keras.optimizers.Adam(0.05), "categorical_crossentropy", num_epoch=2, **names)
    before = frame.sparkSession.conf.get(RECORDS)
    trainer.train(frame, validation_data=frame)
    assert frame.sparkSession.conf.get(RECORDS) == before
    assert trainer.report["samples"] == 2 * ROWS
    assert trainer.report["test_accuracy"] > 0.85


def test_a_column_that_is_not_there_is_refused_before_anything_runs(frame):
    with pytest.raises(DataError, match="column 'labels'"):
        dk.ADAG(model(), label_col="labels").train(frame)
    with pytest.raises(TypeError, match="Spark DataFrame"):
        dk.ADAG(model()).train([1, 2])


def test_a_null_is_named(spark, frame):
    from pyspark.sql import functions

    broken = frame.withColumn("features", functions.when(functions.col("id") != 77, functions.col("features")))
    with pytest.raises(DataError, match=r"(?s)column 'features'.*row \d+"):
        dk.ADAG(model(), loss="sparse_categorical_crossentropy").train(broken)
    assert left_behind() == []


def kill_a_rank_after(folder: str, number: int) -> threading.Thread:
    """A thread that kills a rank once a checkpoint of that number, or a later one, is whole in a folder, which may be a pattern."""

    def kill() -> None:
        deadline = time.monotonic() + 150
        pattern = f"{folder}/checkpoint-*/manifest.json"
        while not any(int(path.parent.name[-8:]) >= number for path in Path("/").glob(pattern.lstrip("/"))) and time.monotonic() < deadline:
            time.sleep(0.02)
        victim = next(line for line in left_behind() if "-m dkcore.worker" in line and "reaper.py" not in line and "sh -c" not in line)
        os.kill(int(victim.partition(":")[0]), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_job_that_loses_a_rank_goes_on_from_the_last_checkpoint_with_its_optimizers(frame):
    """One rank is killed once the driver holds a checkpoint: the second launch begins there, each rank with its own optimizer."""
    epochs = 60
    thread = kill_a_rank_after(f"{tempfile.gettempdir()}/dkcore-job-*/checkpoints", 2)
    trainer = dk.ADAG(model(), "adam", "sparse_categorical_crossentropy", num_epoch=epochs, max_restarts=1, batch_size=8)
    trained = trainer.train(frame)
    thread.join()
    assert trainer.report["restarts"] == 1
    begun = min(record["epoch"] for record in trainer.get_history())
    assert begun >= 1
    assert trainer.report["samples"] <= (epochs - begun) * ROWS
    assert "each of 2 workers has its optimizer back" in trainer.report["resumed"]
    steps = max(record["step"] for record in trainer.get_executor_history(0))
    assert steps == int(trained.optimizer.iterations)  # of the first launch, too
    assert accuracy(trained, frame) > 0.9
    assert left_behind() == []


def test_modules_of_custom_layers_travel(frame, tmp_path):
    """And what they raise in a rank, after no restart, is raised here."""
    (tmp_path / "breaks.py").write_text("raise OSError('broken on purpose')")
    trainer = dk.ADAG(model(), loss="sparse_categorical_crossentropy", custom_modules=[str(tmp_path / "breaks.py")])
    with pytest.raises(RankError, match=r"(?s)breaks.py.*\nError: rank \d on \S+: OSError: broken on purpose$"):
        trainer.train(frame)
    assert left_behind() == []


def test_a_cached_dataframe_of_as_many_partitions_is_not_shuffled(spark, frame):
    from spark_bridge.dataframe import spread

    two = frame.repartition(2).cache()
    assert spread(two, two.select("label"), 2).rdd.getNumPartitions() == 2
    plan = spread(two, two.select("label"), 2)._jdf.queryExecution().executedPlan().toString()
    assert "Exchange" not in plan.partition("InMemoryRelation")[0]
    joined = frame.coalesce(2).cache()  # of this a barrier stage cannot be made without a shuffle
    trainer = dk.ADAG(model(), loss="sparse_categorical_crossentropy")
    trainer.train(joined)
    assert trainer.report["samples"] == ROWS
