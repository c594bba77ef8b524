"""The bridge on the oldest PySpark that it is for, beside the newest one that the other tests have."""

import os
import subprocess
import sys

from spark_settings import ROOT, settings

OLDER = ROOT / "build/pyspark-3.5"
SCRIPT = f"""
import warnings
warnings.simplefilter("error", FutureWarning)
import keras, numpy as np, pyspark
from pyspark.sql import SparkSession
import dkcore as dk, spark_bridge
builder = SparkSession.builder.master("local[2]")
for name, value in {settings()!r}.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")
print("version", pyspark.__version__)
print("sizes", spark_bridge.run(lambda: dk.init().size))
x = np.random.default_rng(0).normal(size=(2000, 8)).astype("float32")
frame = spark.createDataFrame(list(zip(x.tolist(), (x.sum(1) > 0).astype(int).tolist())), "`f.x` array<float>, label int")
frame = frame.selectExpr("`f.x`", "label", "1.0 as `a.weight`", "1 as unused", "2 as unused")
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(2, "softmax")])
settings = dict(num_epoch=4, communication_window=4, features_col="f.x", weight_col="a.weight")
trainer = dk.ADAG(model, keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", **settings)
trained = trainer.train(frame, validation_data=0.2)
predicted = spark_bridge.ModelPredictor(trained, "f.x").predict(frame)
import tempfile
stage = spark_bridge.MinMaxTransformer(0, 1, 0, 2, "f.x", "o.x")
stage.save(tempfile.gettempdir() + "/a stage-10:00")
print("columns", spark_bridge.MinMaxTransformer.load(tempfile.gettempdir() + "/a stage-10:00").transform(predicted).columns)
print("accuracy", spark_bridge.AccuracyEvaluator().evaluate(predicted))
print("placement", trainer.report["placement"])
try:
    spark_bridge.run(lambda: 1 / 0)
except dk.errors.RankError as error:
    print("raised", "ZeroDivisionError" in str(error))
"""


def test_the_oldest_pyspark_trains_too(spark_environment, tmp_path):
    """Among columns that share a name, in a folder of an odd one."""
    (tmp_path / "a %20: b").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "a %20: b"), "KERAS_BACKEND": "jax"}
    environment["PYTHONPATH"] = os.pathsep.join([str(OLDER), str(ROOT)])
    environment.pop("SPARK_HOME", None)
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert told["version"].startswith("3.5.")
    assert told["sizes"] == "[2, 2]"
    assert float(told["accuracy"]) > 0.9
    assert "task slot" in told["placement"]
    assert told["raised"] == "True"
    assert told["columns"] == "['f.x', 'label', 'a.weight', 'unused', 'unused', 'prediction', 'o.x']"
