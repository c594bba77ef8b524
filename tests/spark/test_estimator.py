"""KerasEstimator on a real cluster: it trains, in pipelines and cross-validation too, and what was fitted can be kept."""

import gc
import json

import keras
import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel, ParamGridBuilder
from pyspark.sql import functions as F

import dkcore as dk
from dkcore import errors
from dkcore.commands.options import trainer_of
from dkcore.training import ensemble
from spark_bridge.estimator import KerasEstimator, KerasModel
from spark_bridge.evaluators import AccuracyEvaluator
from spark_bridge.transformers import MinMaxTransformer

ROWS = 400


@pytest.fixture(scope="module")
def df(spark):
    """Two classes that a line divides."""
    x = np.random.default_rng(0).uniform(0, 255, (ROWS, 4)).round()
    rows = [(i, v.tolist(), int(v.sum() > 510), i % 4 == 0) for i, v in enumerate(x)]
    df = spark.createDataFrame(rows, ["id", "raw", "label", "held_out"])
    return MinMaxTransformer(0, 255, -1, 1, "raw", "features").transform(df).repartition(2).cache()


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])


def estimator(**more) -> KerasEstimator:
    options = {"trainer": "aeasgd", "worker_optimizer": keras.optimizers.Adam(0.1), "num_epoch": 3, "batch_size": 8, "num_workers": 2}
    return KerasEstimator(model(), loss="sparse_categorical_crossentropy", **{**options, **more})


@pytest.fixture(scope="module")
def fitted(df) -> KerasModel:
    return estimator(validation_fraction=0.25, alpha=0.4).fit(df)


def predictions(stage, df) -> np.ndarray:
    return np.array([row[0] for row in stage.transform(df).orderBy("id").select("prediction").collect()])


def test_it_learns(df, fitted):
    assert AccuracyEvaluator().evaluate(fitted.transform(df)) > 0.9
    before = AccuracyEvaluator().evaluate(KerasModel(estimator().payload).transform(df))
    assert before < 0.8


def test_the_fitted_model_is_a_keras_model_with_its_story(df, fitted):
    x = np.array([row[0] for row in df.orderBy("id").select("features").collect()], "float32")
    assert fitted.getModel() is fitted.model
    assert fitted.model.compiled and fitted.model.loss == "sparse_categorical_crossentropy"
    np.testing.assert_allclose(predictions(fitted, df), fitted.model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    report = fitted.report
    assert (report["trainer"], report["workers"], report["epochs"], report["batch_size"]) == ("AEASGD", 2, 3, 8)
    assert 0 < ROWS * 3 - report["samples"] < ROWS * 3 / 2  # a quarter was held out
    assert report["test_accuracy"] > 0.8
    assert set(fitted.history["worker"].to_pylist()) == {-1, 0, 1}


def test_a_fitted_model_can_be_kept(df, fitted, tmp_path):
    fitted.write().save(str(tmp_path / "model"))
    with pytest.raises(Exception, match="(?i)exist"):
        fitted.write().save(str(tmp_path / "model"))
    fitted.write().overwrite().save(str(tmp_path / "model"))
    loaded = KerasModel.load(str(tmp_path / "model"))
    assert np.array_equal(predictions(loaded, df), predictions(fitted, df))
    assert (loaded.report, loaded.history) == (fitted.report, fitted.history)
    assert loaded.extractParamMap() == fitted.extractParamMap()


def test_an_estimator_can_be_kept(spark, tmp_path):
    mine = estimator(seed=3, metrics=[keras.metrics.SparseCategoricalAccuracy(name="right")], alpha=0.3, max_restarts=1)
    mine.save(str(tmp_path / "estimator"))
    loaded = KerasEstimator.load(str(tmp_path / "estimator"))
    assert loaded.extractParamMap() == mine.extractParamMap()
    for one, two in zip(loaded.payload.unpack().get_weights(), model().get_weights(), strict=True):
        assert np.array_equal(one, two)
    found = loaded.arguments()
    assert float(found["worker_optimizer"].learning_rate) == pytest.approx(0.1)
    assert (found["metrics"][0].name, found["seed"], found["alpha"], found["max_restarts"]) == ("right", 3, 0.3, 1)


def test_a_pipeline_is_fitted_and_kept(df, tmp_path):
    stages = [MinMaxTransformer(0, 255, -1, 1, "raw", "scaled"), estimator(features_col="scaled")]
    Pipeline(stages=stages).write().save(str(tmp_path / "pipeline"))
    fitted = Pipeline.load(str(tmp_path / "pipeline")).fit(df.drop("features"))
    fitted.write().save(str(tmp_path / "fitted"))
    loaded = PipelineModel.load(str(tmp_path / "fitted"))
    assert AccuracyEvaluator().evaluate(loaded.transform(df)) > 0.9
    assert np.array_equal(predictions(loaded, df), predictions(fitted, df))


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool:ResourceWarning")  # CrossValidator's own
def test_cross_validation_finds_the_better_params(df, tmp_path):
    mine = estimator(num_epoch=2, num_workers=1)
    grid = ParamGridBuilder().addGrid(mine.workerOptimizer, [keras.optimizers.SGD(1e-6), keras.optimizers.Adam(0.1)]).build()
    found = CrossValidator(estimator=mine, estimatorParamMaps=grid, evaluator=AccuracyEvaluator(), numFolds=2, seed=0).fit(df)
    assert found.avgMetrics[1] > 0.85 > found.avgMetrics[0]
    assert AccuracyEvaluator().evaluate(found.transform(df)) > 0.85
    found.write().save(str(tmp_path / "found"))
    loaded = CrossValidatorModel.load(str(tmp_path / "found"))
    assert np.array_equal(predictions(loaded, df), predictions(found, df))
    gc.collect()  # its pools, while their warning is ignored


def test_rows_may_be_held_out_by_a_column(df):
    mine = estimator(validation_indicator_col="held_out", num_epoch=1)
    training, validation = mine.split(df)
    assert (training.where("held_out").count(), validation.where("not held_out").count()) == (0, 0)
    fitted = mine.fit(df)
    assert fitted.report["samples"] == ROWS * 3 // 4
    assert fitted.report["test_accuracy"] == pytest.approx(AccuracyEvaluator().evaluate(fitted.transform(validation)))
    assert mine.split(df.withColumn("held_out", F.lit(None).cast("boolean")))[0].count() == ROWS
    with pytest.raises(ValueError, match="one of validation_fraction and validation_indicator_col"):
        estimator(validation_indicator_col="held_out", validation_fraction=0.5).fit(df)


def test_an_ensemble_by_class(df):
    fitted = estimator(trainer=dk.EnsembleTrainer).fit(df)
    assert fitted.report["trainer"] == "EnsembleTrainer"
    assert AccuracyEvaluator().evaluate(fitted.transform(df)) > 0.9
    assert len(ensemble.members(fitted.model)) == 2


def test_a_compiled_model_may_keep_what_it_was_compiled_with():
    start = model()
    start.compile(keras.optimizers.SGD(0.25), "sparse_categorical_crossentropy")
    mine = KerasEstimator(start, worker_optimizer=None)
    assert mine.arguments()["worker_optimizer"] is None
    assert float(mine.payload.unpack(compile=True).optimizer.learning_rate) == 0.25


def test_params_are_plain_and_checked(df):
    @dk.rule
    def half(c, w):
        return c, c + 0.5 * (w - c)

    mine = estimator(trainer=dk.ADAG, rule=half)
    values = json.loads(json.dumps({param.name: value for param, value in mine.extractParamMap().items()}))
    assert values["trainerOptions"]["rule"]["name"] == "half"
    for own in (mine, KerasEstimator(model(), half), estimator(rule="downpour")):
        trainer = trainer_of(own.getOrDefault("trainer"))(model(), **own.arguments())
        name = "downpour" if own.getOrDefault("trainerOptions")["rule"] == "downpour" else "half"
        assert (trainer.job.trainer, trainer.job.the_rule.name, trainer.job.scalars) == (name, name, {})
    assert mine.copy({mine.numEpoch: 7}).getOrDefault("numEpoch") == 7 and mine.getOrDefault("numEpoch") == 3
    with pytest.raises(ValueError, match="a trainer of"):
        estimator(trainer="nonsense")
    with pytest.raises(TypeError, match="numEpoch"):
        estimator(num_epoch="many")
    with pytest.raises(errors.ModelError, match="a Keras model to fit"):
        KerasEstimator().fit(df)
    with pytest.raises(errors.ModelError, match="a Keras model"):
        KerasEstimator("model")
