"""The evaluators give what Keras' metrics and losses give on the same rows, whatever the columns."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from pyspark.ml.linalg import Vectors

from dkcore.errors import DataError
from spark_bridge.evaluators import AccuracyEvaluator, LossEvaluator

ROWS, CLASSES = 40, 3


@pytest.fixture(scope="module")
def y() -> np.ndarray:
    return np.random.default_rng(0).integers(0, CLASSES, ROWS)


@pytest.fixture(scope="module")
def p() -> np.ndarray:
    p = np.random.default_rng(1).uniform(size=(ROWS, CLASSES)).astype("float32")
    return p / p.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def df(spark, y, p):
    """Labels and predictions in every form, in four partitions of which one is empty."""
    rows = [
        (int(a), float(a), np.eye(CLASSES)[a].tolist(), Vectors.sparse(CLASSES, [a], [1.0]), [float(a > 1)], b.tolist(), Vectors.dense(b),
         float(b.argmax()), [float(b[0] * 2)], "text")
        for a, b in zip(y, p, strict=True)
    ]  # fmt: skip
    names = ["label", "double", "one_hot", "vector", "of_one", "prediction", "as_vector", "as_class", "as_one", "text"]
    df = spark.createDataFrame(rows, names).repartition(3)
    return df.union(df.where("label < 0").coalesce(1)).cache()


@pytest.mark.parametrize("prediction", ["prediction", "as_vector", "as_class"])
@pytest.mark.parametrize("label", ["label", "double", "one_hot", "vector"])
def test_accuracy(df, y, p, label, prediction):
    assert AccuracyEvaluator(label, prediction).evaluate(df) == pytest.approx((p.argmax(1) == y).mean())


def test_accuracy_of_a_probability(df, y, p):
    wanted = ((2 * p[:, 0] > 0.5) == (y > 1)).mean()
    assert AccuracyEvaluator("of_one", "as_one").evaluate(df) == pytest.approx(wanted)
    keras_says = keras.metrics.BinaryAccuracy()((y > 1).astype("float32")[:, None], 2 * p[:, :1])
    assert float(keras_says) == pytest.approx(wanted)


def test_a_null_is_wrong(spark):
    df = spark.createDataFrame([(1, [0.0, 1.0]), (1, None), (None, [0.0, 1.0])], "label int, prediction array<double>")
    assert AccuracyEvaluator().evaluate(df) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("loss", "label"),
    [
        ("sparse_categorical_crossentropy", "label"),
        ("sparse_categorical_crossentropy", "double"),
        ("categorical_crossentropy", "one_hot"),
        ("mse", "vector"),
        (keras.losses.Huber(0.1, reduction="sum"), "one_hot"),
        (keras.losses.CategoricalFocalCrossentropy(gamma=1.5, label_smoothing=0.1), "one_hot"),
    ],
)
@pytest.mark.parametrize("prediction", ["prediction", "as_vector"])
def test_loss(df, y, p, loss, label, prediction):
    evaluator = LossEvaluator(loss, label, prediction)
    of_mine = keras.losses.get(loss)
    if isinstance(of_mine, keras.losses.Loss):
        of_mine.reduction = "sum_over_batch_size"
    wanted = np.mean(keras.ops.convert_to_numpy(of_mine(y if label in ("label", "double") else np.eye(CLASSES)[y], p)))
    assert evaluator.evaluate(df) == pytest.approx(wanted, rel=1e-5)


def test_loss_of_numbers(df, y, p):
    assert LossEvaluator("mae", "double", "as_class").evaluate(df) == pytest.approx(np.abs(y - p.argmax(1)).mean())
    assert LossEvaluator("binary_crossentropy", "of_one", "as_one").evaluate(df) > 0


def test_a_loss_of_my_own(df, y, p, monkeypatch, tmp_path):
    (tmp_path / "losses_of_mine.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('tests')\n"
        "class Gap(keras.losses.Loss):\n"
        "    def call(self, y, p):\n"
        "        return keras.ops.mean(keras.ops.abs(y - p), -1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import losses_of_mine

    found = LossEvaluator(losses_of_mine.Gap(), "one_hot", custom_modules=[str(Path(sys.modules["losses_of_mine"].__file__))]).evaluate(df)
    assert found == pytest.approx(np.abs(np.eye(CLASSES)[y] - p).mean(), rel=1e-5)


def test_larger_is_better_for_accuracy_only():
    assert AccuracyEvaluator().isLargerBetter() and not LossEvaluator().isLargerBetter()


def test_they_can_be_saved(df, tmp_path):
    for evaluator in (AccuracyEvaluator("one_hot"), LossEvaluator(keras.losses.Huber(0.1), "one_hot")):
        path = str(tmp_path / type(evaluator).__name__)
        evaluator.save(path)
        loaded = type(evaluator).load(path)
        assert loaded.extractParamMap() == evaluator.extractParamMap()
        assert loaded.evaluate(df) == pytest.approx(evaluator.evaluate(df))


@pytest.mark.parametrize("evaluator", [AccuracyEvaluator, LossEvaluator])
def test_what_cannot_be_evaluated_is_refused(df, evaluator):
    with pytest.raises(DataError, match="rows to evaluate"):
        evaluator().evaluate(df.where("label < 0"))
    with pytest.raises(DataError, match="column 'text'. Received: string"):
        evaluator(label_col="text").evaluate(df)
    with pytest.raises(ValueError, match="nonsense"):
        LossEvaluator("nonsense").evaluate(df)
