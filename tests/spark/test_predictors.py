"""ModelPredictor: what it adds is what Keras predicts, whatever the columns, and nothing else changes."""

import dataclasses
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from dkcore import errors
from spark_bridge.inference import Inference
from spark_bridge.model_payload import KEPT, LOADED, ModelPayload
from spark_bridge.predictors import ModelPredictor

ROWS, WIDTH = 50, 6


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, WIDTH)).round(2).astype("float32")


@pytest.fixture(scope="module")
def df(spark, x):
    """Columns of all kinds, one with metadata, one that is never null, in three partitions."""
    rows = [
        (i, Vectors.dense(v) if i % 2 else Vectors.sparse(WIDTH, np.flatnonzero(v), v[v != 0]), v.tolist(), v.reshape(2, 3).tolist(),
         float(v[0]), {"i": i}, f"row {i}")
        for i, v in enumerate(x)
    ]  # fmt: skip
    df = spark.createDataFrame(rows, ["id", "features", "array", "image", "number", "map", "text"])
    df = df.withColumn("marked", F.col("id").alias("marked", metadata={"a": "b"})).withColumn("never_null", F.lit(1))
    return df.repartition(3).cache()


def model(*shape: int, outputs: int = 3) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(outputs, activation="tanh")])


def found(df, column: str = "prediction") -> np.ndarray:
    return np.array([row[0] for row in df.orderBy("id").select(column).collect()], "float32")


@pytest.mark.parametrize("column", ["features", "array", "image", "number"])
def test_predictions_are_those_of_keras(df, x, column):
    shaped = {"image": x.reshape(-1, 2, 3), "number": x[:, :1]}.get(column, x)
    of_mine = model(*shaped.shape[1:])
    out = ModelPredictor(of_mine, column, batch_size=8).predict(df)
    assert out.schema["prediction"].dataType.simpleString() == "array<float>"
    np.testing.assert_allclose(found(out), of_mine.predict_on_batch(shaped), rtol=1e-5, atol=1e-6)


def test_nothing_else_changes(df):
    out = ModelPredictor(model(WIDTH)).transform(df)
    assert [field.jsonValue() for field in out.schema.fields[:-1]] == [field.jsonValue() for field in df.schema.fields]
    assert out.drop("prediction").orderBy("id").collect() == df.orderBy("id").collect()


def two_inputs(outputs: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    a, b = keras.Input((WIDTH,), name="a"), keras.Input((2, 3), name="b")
    c = keras.layers.Dense(2, name="late")(keras.layers.Concatenate()([a, keras.layers.Flatten()(b)]))
    d = keras.layers.Dense(4, name="early")(b)
    return keras.Model([a, b] if outputs == "list" else {"a": a, "b": b}, [c, d] if outputs == "list" else {"z": c, "y": d})


def test_several_inputs_and_outputs_in_order(df, x):
    of_mine = two_inputs("list")
    out = ModelPredictor(of_mine, ["features", "image"], ["c", "d"], batch_size=7).transform(df)
    assert [out.schema[name].dataType.simpleString() for name in "cd"] == ["array<float>", "array<array<float>>"]
    for name, wanted in zip("cd", of_mine.predict_on_batch([x, x.reshape(-1, 2, 3)]), strict=True):
        np.testing.assert_allclose(found(out, name), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("columns", [{"z": "c", "y": "d"}, ["d", "c"]])
def test_several_inputs_and_outputs_by_name(df, x, columns):
    of_mine = two_inputs("dict")
    out = ModelPredictor(of_mine, {"b": "image", "a": "array"}, columns).transform(df)
    wanted = of_mine.predict_on_batch({"a": x, "b": x.reshape(-1, 2, 3)})
    np.testing.assert_allclose(found(out, "c"), wanted["z"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found(out, "d"), wanted["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 8, 9, 15, 16, 17])
def test_batches_are_whole_but_for_powers_of_two(rows):
    """The last one is padded, and what was padded is cut off: each batch size is compiled anew."""
    seen = []

    class Model:
        def predict_on_batch(self, x):
            seen.append(len(x))
            return x * 2

    x = np.arange(rows * 2, dtype="float64").reshape(rows, 2)
    (out,) = Inference(None, None, 0, [("prediction", 1)], None, 8).predict(Model(), x, rows)
    assert np.array_equal(out, 2 * x) and out.dtype == np.float32
    assert all(size in (1, 2, 4, 8) for size in seen) and sum(seen) < rows + 8


def test_an_empty_dataframe_has_no_predictions(df):
    assert ModelPredictor(model(WIDTH)).transform(df.where("id < 0")).collect() == []
    assert ModelPredictor(model(WIDTH)).transform(df.where("id < 2").repartition(5)).count() == 2


def test_the_model_is_loaded_once_a_process():
    payloads = [ModelPayload.pack(model(WIDTH, outputs=outputs)) for outputs in (1, 2, 3)]
    again = ModelPayload(**vars(payloads[0]))
    assert again == payloads[0] != payloads[1]
    assert payloads[0].model() is again.model()
    first = payloads[0].model()
    for payload in payloads[1:]:
        assert payload.model().output_shape == (None, payload.model().output_shape[1])
    assert len(LOADED) == KEPT
    assert payloads[0].model() is not first  # the least recent one was given up


def test_custom_layers_travel_as_source(df, x, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    from layers_of_mine import Twice

    of_mine = keras.Sequential([keras.Input((WIDTH,)), Twice()])
    file = inspect.getfile(Twice)
    for named in (file, "layers_of_mine"):
        assert ModelPayload.pack(of_mine, [named]).modules == (("layers_of_mine", Path(file).read_text()),)
        out = ModelPredictor(of_mine, "array", custom_modules=[named]).transform(df)
        np.testing.assert_allclose(found(out), 2 * x, rtol=1e-6)
    assert ModelPayload.pack(of_mine, ["os.path", "email"]).modules == (("os.path", None), ("email", None))  # packages are to be there


def test_a_stream(spark, df, x, tmp_path):
    df.select("id", "features", "text").write.parquet(str(tmp_path / "in"))
    stream = spark.readStream.schema(df.select("id", "features", "text").schema).parquet(str(tmp_path / "in"))
    of_mine = model(WIDTH)
    out = ModelPredictor(of_mine).transform(stream)
    assert out.isStreaming
    query = out.writeStream.format("memory").queryName("predictions").trigger(availableNow=True).start()
    query.awaitTermination(120)
    assert query.exception() is None
    np.testing.assert_allclose(found(spark.table("predictions")), of_mine.predict_on_batch(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"features_col": "text"}, errors.DataError, "column 'text'. Received: string"),
        ({"features_col": "nope"}, errors.DataError, "a column 'nope'"),
        ({"features_col": 3}, TypeError, "names of columns for features"),
        ({"output_col": "text"}, ValueError, "'text', which is there"),
        ({"output_col": ["a", "b"]}, errors.ModelError, "each of the model's 1 outputs"),
        ({"output_col": {"a": "b"}}, errors.ModelError, r"outputs named \['a'\]"),
        ({"batch_size": 0}, ValueError, "batch size of 1 or more"),
    ],
)
def test_what_cannot_be_predicted_is_refused_at_once(df, options, error, message):
    with pytest.raises(error, match=message):
        ModelPredictor(model(WIDTH), **options).transform(df)


def test_no_model_and_no_module_are_refused():
    with pytest.raises(errors.ModelError, match="a Keras model"):
        ModelPredictor("model")
    with pytest.raises(errors.ModelError, match="a Python file"):
        ModelPredictor(model(WIDTH), custom_modules=["nowhere.py"])
    with pytest.raises(errors.MissingError, match="custom module 'nowhere_at_all'"):
        ModelPredictor(model(WIDTH), custom_modules=["nowhere_at_all"])


def test_null_and_ragged_rows_are_named(spark):
    for bad, message in ((None, "no null in column 'x'"), ([1.0], "arrays of one shape in column 'x'")):
        df = spark.createDataFrame([([1.0, 2.0],), (bad,)], "x array<double>").coalesce(1)
        with pytest.raises(Exception, match=rf"(?s)DataError.*{message}.*in row 1 of partition 0"):
            ModelPredictor(model(2), "x").transform(df).collect()
    df = spark.createDataFrame([(Vectors.dense(1, 2),), (None,)], StructType([StructField("x", VectorUDT())])).coalesce(1)
    with pytest.raises(Exception, match="(?s)DataError.*no null in column 'x'.*in row 1 of partition 0"):
        ModelPredictor(model(2), "x").transform(df).collect()


class Unknown(keras.Model):
    """A subclass, whose outputs nobody knows before it runs."""

    def __init__(self, deep: bool):
        super().__init__()
        self.deep = deep

    def call(self, x):
        return x[:, None, :] if self.deep else x


def test_a_subclass_gives_vectors_or_is_refused(x):
    inference = Inference(None, None, 0, [("prediction", 1)], None, 8)
    assert np.array_equal(inference.predict(Unknown(False), x, ROWS)[0], x)
    with pytest.raises(errors.ModelError, match=r"keras.Model\(x, model\(x\)\)"):
        inference.predict(Unknown(True), x, ROWS)


def test_the_backend_is_that_of_the_driver(tmp_path):
    """Where nobody chose one."""
    payload = ModelPayload.pack(model(WIDTH))
    assert payload.backend == keras.backend.backend()
    payload = dataclasses.replace(payload, backend="jax")  # not Keras' own choice
    (tmp_path / "payload").write_bytes(pickle.dumps(payload))
    code = (
        "import pickle, sys; from pathlib import Path; payload = pickle.loads(Path(sys.argv[1]).read_bytes());"
        "assert 'keras' not in sys.modules; payload.model(); import keras; print(keras.backend.backend())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    command = [sys.executable, "-c", code, str(tmp_path / "payload")]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout
    assert told.strip() == "jax"
