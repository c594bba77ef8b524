"""Executors whose Python lacks something that we need: one sentence says which Python, and what."""

import os
import re
import subprocess
import sys

import pytest
from spark_settings import ROOT, settings
from test_cluster import bare_python

SCRIPT = f"""
import keras
import dkcore as dk, spark_bridge
from pyspark.sql import SparkSession
builder = SparkSession.builder.master("local[2]")
for name, value in {settings()!r}.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")
df = spark.sql("select array(1d, 2d) features, 1d label, array(1d) prediction")
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
for what in (lambda: dk.ADAG(model, "sgd", "mse").train(df),
             lambda: spark_bridge.ModelPredictor(model, output_col="p").predict(df).collect(),
             lambda: spark_bridge.LossEvaluator("mse").evaluate(df), lambda: spark_bridge.run(len, ([],), num_workers=1)):
    try:
        what()
    except dk.errors.MissingError as error:
        print("SAID", error)
"""


@pytest.mark.parametrize("lacking", [["pyarrow"], ["pandas", "numpy", "dkcore"]])
def test_an_executor_that_lacks_a_package_is_named_with_its_python(spark_environment, tmp_path, lacking):
    python = bare_python(tmp_path / "bare")
    packages = next((tmp_path / "bare").glob("lib/python3*/site-packages"))
    for name in ("dkcore", "spark_bridge"):
        (packages / name).symlink_to(ROOT / name)
    for name in lacking:
        (packages / name).unlink()
    environment = {**os.environ, "PYSPARK_PYTHON": str(python), "KERAS_BACKEND": "jax"}
    environment.pop("PYTHONPATH")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    assert len(said) == 4, done.stderr[-3000:]
    for line in said:
        assert re.fullmatch(
            rf"SAID Expected {', '.join(lacking)} on executor \S+, for its Python {re.escape(str(python))}\. "
            rf"Received: No module named '{lacking[0]}'\. "
            r"Install that there, or set PYSPARK_PYTHON to a Python that has it, or ship one with --archives \(docs/spark\.md\)\.", line
        ), line  # fmt: skip
