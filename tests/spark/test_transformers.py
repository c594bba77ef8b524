"""The transformers: each gives what numpy gives, on numbers, arrays and vectors, and survives being saved."""

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.linalg import DenseVector, Vectors

from dkcore.errors import DataError
from spark_bridge import transformers
from spark_bridge.transformers import (
    BinaryLabelTransformer,
    DenseTransformer,
    LabelIndexTransformer,
    MinMaxTransformer,
    OneHotTransformer,
    ReshapeTransformer,
    StandardTransformer,
)

ROWS, WIDTH = 20, 6


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    x = np.random.default_rng(0).uniform(-3, 9, (ROWS, WIDTH)).round(3)
    x[:, 2] = 7  # never varies
    x[3] = x[4] = 0
    return x


@pytest.fixture(scope="module")
def df(spark, x):
    sparse = [Vectors.sparse(WIDTH, np.flatnonzero(v), v[v != 0]) for v in x]
    rows = [
        (i, Vectors.dense(v) if i % 2 else sparse[i], v.tolist(), [v[:3].tolist()] * 2, float(v[0]), i % 4, f"kind {i % 3}")
        for i, v in enumerate(x)
    ]
    return spark.createDataFrame(rows, ["id", "vector", "array", "nested", "number", "label", "kind"]).repartition(3).cache()


def found(df, column: str = "out") -> np.ndarray:
    """The column in the order of ids."""
    return np.array([row[0] for row in df.orderBy("id").select(column).collect()])


@pytest.mark.parametrize("column", ["vector", "array", "nested", "number"])
def test_min_max_is_a_line(df, x, column):
    old = {"vector": x, "array": x, "nested": np.stack([x[:, :3]] * 2, 1), "number": x[:, 0]}[column]
    out = MinMaxTransformer(o_min=-3, o_max=9, n_min=0.5, n_max=1.5, input_col=column, output_col="out").transform(df)
    np.testing.assert_allclose(found(out), np.interp(old, [-3, 9], [0.5, 1.5]), rtol=1e-12)
    assert out.schema["out"].dataType.typeName() == df.schema[column].dataType.typeName()


def test_min_max_goes_beyond_its_range_as_the_line_does(df, x):
    out = MinMaxTransformer(0, 1, 10, 20, "array", "out").transform(df)
    np.testing.assert_allclose(found(out), 10 + 10 * x, rtol=1e-12)


def test_min_max_replaces_its_own_column(df, x):
    out = MinMaxTransformer(0, 2, 0, 1, "array", "array").transform(df)
    assert out.columns == df.columns
    np.testing.assert_allclose(found(out, "array"), x / 2, rtol=1e-12, atol=1e-15)


def test_standard_has_mean_0_and_deviation_1(df, x):
    out = StandardTransformer(["vector", "array", "number", "label"]).transform(df)
    deviation = np.where(x.std(0) > 0, x.std(0), np.inf)
    for column in ("vector", "array"):
        np.testing.assert_allclose(found(out, f"{column}_normalized"), (x - x.mean(0)) / deviation, atol=1e-12)
    np.testing.assert_allclose(found(out, "number_normalized"), (x[:, 0] - x[:, 0].mean()) / x[:, 0].std(), atol=1e-12)
    label = np.arange(ROWS) % 4
    np.testing.assert_allclose(found(out, "label_normalized"), (label - label.mean()) / label.std(), atol=1e-12)


def test_binary_label(df):
    is_label = np.arange(ROWS) % 3 == 1
    for column, label in (("kind", "kind 1"), ("label", 1)):
        wanted = is_label if column == "kind" else np.arange(ROWS) % 4 == 1
        out = BinaryLabelTransformer(column, "out", label).transform(df)
        assert np.array_equal(found(out), np.stack([wanted, ~wanted], 1))
        assert isinstance(out.first()["out"], DenseVector)


def test_one_hot(df):
    out = OneHotTransformer(4, "label", "out").transform(df)
    assert np.array_equal(found(out), np.eye(4)[np.arange(ROWS) % 4])


@pytest.mark.parametrize("value", [-1, 4, 1.5])
def test_one_hot_refuses_what_is_no_index(spark, value):
    df = spark.createDataFrame([(value,)], ["label"])
    with pytest.raises(Exception, match=f"Expected an index of 0 to 3. Received: {value}"):
        OneHotTransformer(4, "label", "out").transform(df).collect()


def label_index(vector: np.ndarray, default: int, threshold: float) -> int:
    over = np.flatnonzero(vector >= threshold)
    if len(over):
        return over[0]
    positive = np.where(vector > 0, vector, 0)
    return np.argmax(positive) if positive.any() else default


@pytest.mark.parametrize("threshold", [0.55, 3.0, 100.0])
@pytest.mark.parametrize("column", ["vector", "array", "nested"])
def test_label_index(df, x, column, threshold):
    old = {"vector": x, "array": x, "nested": np.concatenate([x[:, :3]] * 2, 1)}[column]
    for dim in (1, 5, 6):
        out = LabelIndexTransformer(dim, column, "out", default_index=5, activation_threshold=threshold).transform(df)
        assert found(out).tolist() == [label_index(vector[:dim], 5, threshold) for vector in old]


def test_label_index_takes_nan_for_no_answer(spark):
    df = spark.createDataFrame([([float("nan"), 0.2],), ([float("nan"), -1.0],), ([0.3, 0.3],)], ["prediction"])
    out = LabelIndexTransformer(2, default_index=7).transform(df)
    assert [row["prediction_index"] for row in out.collect()] == [1.0, 7.0, 0.0]


def test_dense(df, x):
    for column in ("vector", "array"):
        out = DenseTransformer(column, "out").transform(df)
        assert all(isinstance(row["out"], DenseVector) for row in out.collect())
        assert np.array_equal(found(out), x)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (3, 2, 1), (1, 2, 1, 3)])
def test_reshape(df, x, shape):
    for column in ("vector", "array", "nested"):
        old = np.concatenate([x[:, :3]] * 2, 1) if column == "nested" else x
        assert np.array_equal(found(ReshapeTransformer(column, "out", shape).transform(df)), old.reshape(ROWS, *shape))


def test_sizes_that_do_not_fit_end_the_query(df):
    with pytest.raises(Exception, match="Expected 8 elements for the shape .2, 4.. Received: 6"):
        ReshapeTransformer("array", "out", (2, 4)).transform(df).collect()
    with pytest.raises(Exception, match="Expected 7 numbers. Received: 6"):
        LabelIndexTransformer(7, "array", "out").transform(df).collect()


def test_null_stays_null(spark):
    df = spark.createDataFrame([(None, None)], "array array<double>, label int")
    stages = [MinMaxTransformer(0, 1, 0, 2, "array", "a"), LabelIndexTransformer(2, "array", "b"), OneHotTransformer(2, "label", "c"),
              ReshapeTransformer("array", "d", (1, 2)), DenseTransformer("array", "e"),
              MinMaxTransformer(0, 1, 0, 2, "e", "f")]  # fmt: skip
    row = Pipeline(stages=stages).fit(df).transform(df).first()
    assert [row[name] for name in "abcdef"] == [None] * 6


def test_statistics_leave_null_out(spark):
    df = spark.createDataFrame([([1.0], 1.0), (None, None), ([3.0], 3.0)], "array array<double>, number double").coalesce(1)
    rows = StandardTransformer(["array", "number"], "_new").transform(df).select("array_new", "number_new").collect()
    assert [tuple(row) for row in rows] == [([-1.0], -1.0), (None, None), ([1.0], 1.0)]


@pytest.mark.parametrize(
    ("stage", "error", "message"),
    [
        (MinMaxTransformer(1, 1, 0, 1, "array", "out"), ValueError, "o_min below o_max"),
        (MinMaxTransformer(0, 1, 0, 1, "number", "out", is_vector=True), DataError, "vectors or arrays"),
        (MinMaxTransformer(0, 1, 0, 1, "array", "out", is_vector=False), DataError, "a column of numbers"),
        (MinMaxTransformer(0, 1, 0, 1, "kind", "out"), DataError, "Received: string"),
        (StandardTransformer(["kind"]), DataError, "Received: string"),
        (OneHotTransformer(3, "kind", "out"), DataError, "StringIndexer"),
        (ReshapeTransformer("number", "out", (1,)), DataError, "VectorAssembler"),
        (ReshapeTransformer("array", "out", (-1, 2)), ValueError, "lengths of 1 or more"),
        (LabelIndexTransformer(input_col="array"), ValueError, "outputDim of LabelIndexTransformer"),
        (DenseTransformer(output_col="out"), ValueError, "inputCol of DenseTransformer"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(df, stage, error, message):
    with pytest.raises(error, match=message):
        stage.transform(df)


def test_all_of_them_can_be_saved_in_a_pipeline(df, tmp_path):
    stages = [
        MinMaxTransformer(-3, 9, 0, 1, "array", "a"),
        StandardTransformer(["number"], "_b"),
        BinaryLabelTransformer("kind", "c", "kind 1"),
        OneHotTransformer(4, "label", "d"),
        LabelIndexTransformer(6, "array", "e", 3, 0.9),
        DenseTransformer("vector", "f"),
        ReshapeTransformer("vector", "g", (2, 3)),
    ]
    assert {type(stage).__name__ for stage in stages} == set(transformers.__all__)
    Pipeline(stages=stages).fit(df).write().save(str(tmp_path / "saved"))
    loaded = PipelineModel.load(str(tmp_path / "saved"))
    for one, two in zip(stages, loaded.stages, strict=True):
        assert (one.uid, one.extractParamMap()) == (two.uid, two.extractParamMap())
    wanted = PipelineModel(stages).transform(df).orderBy("id").collect()
    assert loaded.transform(df).orderBy("id").collect() == wanted


def test_a_copy_has_its_own_params(df, x):
    stage = MinMaxTransformer(0, 1, 0, 1, "array", "out")
    out = stage.transform(df, {stage.nMax: 3.0})
    np.testing.assert_allclose(found(out), 3 * x, rtol=1e-12)
    assert stage.getOrDefault("nMax") == 1
