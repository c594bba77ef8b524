"""Values keep their meaning, weights are weights, and arguments are refused at the door: on the driver, by a sentence."""

import inspect
import re

import keras
import numpy as np
import pytest
from pyspark.ml.feature import StringIndexer, VectorAssembler
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F

import dkcore as dk
import spark_bridge
from dkcore.errors import DataError
from spark_bridge import (
    AccuracyEvaluator,
    KerasEstimator,
    KerasModel,
    LabelIndexTransformer,
    LossEvaluator,
    MinMaxTransformer,
    ModelPredictor,
    OneHotTransformer,
    ReshapeTransformer,
    StandardTransformer,
)
from spark_bridge.columns import Columns


def model(inputs: int = 2) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(1)])


def test_decimals_without_a_fraction_are_integers(spark):
    df = spark.sql("select cast(3 as decimal(5,0)) a, cast(9007199254740993 as decimal(38,0)) b, cast(0.5 as decimal(5,2)) c, "
                   "array(cast(7 as decimal(20,0))) d, cast(1 as tinyint) e, true f")  # fmt: skip
    chosen = Columns(["a", "b", "c"], ["d", "e", "f"]).project(df)
    assert [kind for _, kind in chosen.dtypes] == ["bigint", "bigint", "float", "array<bigint>", "tinyint", "boolean"]
    assert chosen.first() == (3, 9007199254740993, 0.5, [7], 1, True)
    big = spark.sql("select cast('9223372036854775808' as decimal(38,0)) a")
    with pytest.raises(Exception, match="Expected integers of 64 bits in column 'a'. Received: 9223372036854775808. Cast the column"):
        Columns("a", "a").project(big).collect()


def test_vectors_and_predictions_are_of_keras_floatx(spark):
    policy = keras.config.dtype_policy()
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)  # without it JAX has no float64
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        mine = model(1)
        mine.set_weights([np.array([[1.0]]), np.array([1e-12])])
        df = spark.createDataFrame([(Vectors.dense([1.0]),)], ["features"])
        assert Columns("features", "features").project(df, floats="float64").dtypes == [("features", "array<double>")]
        out = ModelPredictor(mine).transform(df)
        assert out.dtypes[-1] == ("prediction", "array<double>")
        assert out.first()["prediction"] == mine.predict_on_batch(np.array([[1.0]]))[0].tolist() == [1.0 + 1e-12]
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(policy)
        if keras.backend.backend() == "jax":
            jax.config.update("jax_enable_x64", False)


def test_nan_and_null_are_wrong_for_every_evaluator(spark):
    nan = float("nan")
    rows = [(1, [nan]), (0, [nan]), (1, None), (0, [None]), (0, [0.1])]
    df = spark.createDataFrame(rows, "label int, prediction array<float>")
    assert AccuracyEvaluator().evaluate(df) == pytest.approx(1 / 5)
    several = spark.createDataFrame([(0, [nan] * 3), (0, [0.9, nan, 0.1]), (0, [0.9, None, 0.1]), (0, [1.0, 0.0, 0.0])], df.schema)
    assert AccuracyEvaluator().evaluate(several) == pytest.approx(1 / 4)
    numbers = spark.createDataFrame([(nan, nan), (1.0, nan), (nan, 1.0), (1.0, 1.0)], "label double, prediction double")
    assert AccuracyEvaluator().evaluate(numbers) == pytest.approx(1 / 4)
    vectors = spark.createDataFrame([(0, Vectors.dense(nan, 0.0)), (0, Vectors.dense(1.0, 0.0))], ["label", "prediction"])
    assert AccuracyEvaluator().evaluate(vectors) == pytest.approx(1 / 2)
    exact = spark.createDataFrame([(2**60, 2**60 + 1), (2**60, 2**60)], "label long, prediction long")
    assert AccuracyEvaluator().evaluate(exact) == pytest.approx(1 / 2)
    for bad in ([nan], None, [None]):
        assert LossEvaluator("mse").evaluate(spark.createDataFrame([(1, bad), (0, [0.0])], df.schema).coalesce(1)) == float("inf")


def test_sample_weights_are_a_column(spark):
    """Rows that say otherwise, but weigh nothing, change nothing."""
    rows = [([1.0, 0.0], 1.0, 1.0, 0.0), ([1.0, 0.0], -1e6, 0.0, 0.0)] * 32
    df = spark.createDataFrame(rows, "features array<double>, label double, `a.weight` double, none double").repartition(1)
    mine = KerasEstimator(model(), "SingleTrainer", "sgd", "mse", weightCol="a.weight", num_epoch=3, metrics=[], seed=np.int64(1))
    fitted = mine.fit(df)
    assert 0 < fitted.transform(df).first()["prediction"][0] < 2
    zero = dk.SingleTrainer(model(), "sgd", "mse", weight_col="none", metrics=[])
    assert np.array_equal(zero.train(df).get_weights()[0], model().get_weights()[0])
    trained = dk.SingleTrainer(model(), "sgd", "mse", weight_col="a.weight", num_epoch=3, metrics=[], seed=1).train(df)
    assert fitted.model.compiled and fitted.model.get_compile_config() == trained.get_compile_config()
    with pytest.raises(DataError, match="column 'gone' in the DataFrame"):
        dk.ADAG(model(), "sgd", "mse", weight_col="gone").train(df)
    with pytest.raises(TypeError, match="a DataFrame for weight_col"):
        dk.ADAG(model(), "sgd", "mse", weight_col="gone").train((np.zeros((4, 2)), np.zeros(4)))


def test_what_is_said_of_the_ranks_places_is_refused_for_dataframes(spark):
    df = spark.createDataFrame([([1.0, 0.0], 1.0)], "features array<double>, label double")
    for options in ({"hosts": "a:2"}, {"directory": "."}, {"mpi": "openmpi"}, {"on_node_loss": "shrink"}):
        with pytest.raises(ValueError, match=f"no {next(iter(options))} for a DataFrame"):
            dk.ADAG(model(), "sgd", "mse", **options).train(df)


STAGES = [getattr(spark_bridge, name) for name in spark_bridge.__all__ if name.endswith(("Transformer", "Evaluator", "Predictor"))]


@pytest.mark.parametrize("stage", STAGES)
def test_a_keyword_that_is_none_is_refused_with_the_nearest(stage):
    known = list(inspect.signature(stage.__init__).parameters)[1:]
    wrong = known[0] + "s"
    with pytest.raises(TypeError, match=f"Expected an argument of {stage.__name__}. Received: {wrong}=, which is none. The nearest is"):
        stage(**{wrong: 1})
    with pytest.raises(TypeError, match="once"):
        stage(*["a"], **{known[0]: "a"})


def test_arguments_may_have_the_names_of_params(spark):
    assert ModelPredictor(model(), featuresCol="f", predictionCol="p", predictionBatchSize=np.int32(7)).getOrDefault("featuresCol") == "f"
    assert MinMaxTransformer(oMin=np.float32(0), oMax=1, inputCol="i", outputCol="o").getInputCol() == "i"
    assert StandardTransformer(inputCols=["a"]).getInputCols() == ["a"]
    assert AccuracyEvaluator(labelCol="l", predictionCol="p").getLabelCol() == "l"
    numbers = {"numEpoch": np.int64(3), "maxRestarts": np.int64(1), "alpha": np.float32(0.5)}
    mine = KerasEstimator(model(), "aeasgd", featuresCol="f", labelCol="l", **numbers)
    assert (mine.getOrDefault("featuresCol"), mine.arguments()["max_restarts"], mine.arguments()["num_epoch"]) == ("f", 1, 3)
    with pytest.raises(TypeError, match="features_col of KerasEstimator once"):
        KerasEstimator(model(), features_col="a", featuresCol="b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_col": "x"}, "feature_col=, which is none. The nearest is features_col="),
        ({"alphas": 0.3}, "alphas=, which is none. The nearest is alpha="),
        ({"max_restart": 1}, "The nearest is max_restarts="),
        ({"metrics": "accuracy"}, r"metrics as a list. Received: 'accuracy'. Pass metrics=\['accuracy'\]"),
        ({"custom_modules": "layers.py"}, r"customModules as a list"),
        ({"features_col": None}, "features_col of KerasEstimator. Received: None"),
        ({"batch_size": None}, "batch_size of KerasEstimator. Received: None"),
        ({"batch_size": 0}, "batchSize of 1 or more. Received: 0"),
        ({"batch_size": 1.5}, "batchSize of 1 or more. Received: 1.5. It is a whole number."),
        ({"num_epoch": True}, "numEpoch of 1 or more. Received: True. It is a whole number."),
        ({"label_col": ["a", 3]}, "names of columns for label"),
        ({"weight_col": 3}, "weightCol as a string. Received: 3"),
        ({"validation_fraction": 1}, "validationFraction between 0 and 1"),
        ({"class_weight": [1, 2]}, "classWeight as a dict from classes to weights"),
        ({"max_restarts": -1}, "max_restarts of 0 or more"),
        ({"hosts": "a:2"}, "no hosts for a DataFrame"),
        ({"worker_optimizer": "nonsense"}, "nonsense"),
    ],
)
def test_what_an_estimator_cannot_mean_is_refused_when_it_is_made(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        KerasEstimator(model(), "aeasgd", **options)


def test_class_weights_reach_the_trainer_and_a_file(tmp_path, spark):
    mine = KerasEstimator(classWeight={0: 1, np.int64(1): np.float32(3)})
    mine.save(str(tmp_path / "estimator"))
    assert KerasEstimator.load(str(tmp_path / "estimator")).arguments()["class_weight"] == {0: 1.0, 1: 3.0}


def test_advice_of_messages_can_be_followed(spark):
    df = spark.createDataFrame([("b", 1.0, 2.0), ("a", 3.0, 4.0), (None, 1.0, 1.0)], "kind string, x double, y double").coalesce(1)
    with pytest.raises(DataError, match="Index it, with LabelIndexTransformer or pyspark.ml's StringIndexer.$"):
        Columns("x", "kind").project(df)
    indexed = LabelIndexTransformer(2, "kind", "label").transform(df)
    assert [row["label"] for row in indexed.collect()] == [1.0, 0.0, None]
    assert Columns("x", "label").project(indexed).columns == ["x", "label"]
    for size in (1, 3):
        with pytest.raises(DataError, match=f"{size} labels in column 'kind'"):
            LabelIndexTransformer(size, "kind", "label").transform(df)
    known = df.where("kind is not null")
    labels = StringIndexer(inputCol="kind", outputCol="label").fit(known).transform(known)
    assert OneHotTransformer(2, "label", "hot").transform(labels).count() == 2
    with pytest.raises(DataError, match="VectorAssembler makes one vector"):
        ReshapeTransformer("x", "o", (1,)).transform(df)
    assembled = VectorAssembler(inputCols=["x", "y"], outputCol="v").transform(df)
    assert ReshapeTransformer("v", "o", (2, 1)).transform(assembled).first()["o"] == [[1.0], [2.0]]
    field = df.select(F.struct("x", "y").alias("s"))
    with pytest.raises(DataError, match="name one: 'column.field'"):
        Columns("s", "s").project(field)
    assert Columns("s.x", "s.y").project(field).first() == (1.0, 2.0)


def test_messages_end_with_one_full_stop():
    """Of the advice in the sources: the part of a message that is written there to the end."""
    from pathlib import Path

    texts = [path.read_text() for path in Path(spark_bridge.__path__[0]).glob("*.py")]
    written = re.compile(r'(?:advice = f?|, f?)"([^"\n]*)"\)?\)?(?: from error)?$', re.MULTILINE)
    ends = [end for text in texts for end in written.findall(text) if " " in end]
    assert len(ends) > 40
    assert [end for end in ends if re.search(r"[?!…]$|\.\.$", end)] == []


def test_a_model_that_is_empty_says_so(spark):
    with pytest.raises(ValueError, match="a fitted or loaded KerasModel"):
        KerasModel().getModel()
