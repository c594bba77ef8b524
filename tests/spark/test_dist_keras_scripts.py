"""Scripts as dist-keras' users have them, on the smallest data: only the imports are dkcore's. A DataFrame, real ranks."""

# ruff: noqa: F403, F405

import numpy as np
import pytest
from keras.layers import Activation, Convolution2D, Dense, Dropout, Flatten, MaxPooling2D
from keras.models import Sequential
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import StandardScaler, StringIndexer, VectorAssembler
from ranks_of import left_behind

from dkcore.trainers import *
from dkcore.utils import *
from spark_bridge.evaluators import *
from spark_bridge.predictors import *
from spark_bridge.transformers import *

pytestmark = pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`")  # Keras 3 takes it, and warns
SIDE, CLASSES, WORKERS = 6, 3, 2


@pytest.fixture(scope="module")
def digits(spark, tmp_path_factory):
    """Images as a CSV file has them, a column a pixel: class k is bright in the k-th two rows."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("digits")
    labels = rng.integers(0, CLASSES, 600)
    pixels = rng.integers(0, 120, (600, SIDE, SIDE))
    for image, label in zip(pixels, labels, strict=True):
        image[2 * label : 2 * label + 2] += 120
    names = ",".join(["label", *(f"pixel{index}" for index in range(SIDE**2))])
    np.savetxt(folder / "digits.csv", np.c_[labels, pixels.reshape(600, -1)], "%d", ",", header=names, comments="")
    return spark.read.format("csv").options(header="true", inferSchema="true").load(str(folder / "digits.csv"))


def test_the_mnist_script(digits):
    features = digits.columns
    features.remove("label")
    dataset = VectorAssembler(inputCols=features, outputCol="features").transform(digits)
    dataset = OneHotTransformer(CLASSES, input_col="label", output_col="label_encoded").transform(dataset)
    scale = MinMaxTransformer(n_min=0.0, n_max=1.0, o_min=0.0, o_max=250.0, input_col="features", output_col="normalized")
    dataset = scale.transform(dataset)
    dataset = ReshapeTransformer("normalized", "matrix", (SIDE, SIDE, 1)).transform(dataset)
    dataset = dataset.select("normalized", "matrix", "label", "label_encoded")
    dataset = DenseTransformer(input_col="normalized", output_col="normalized_dense").transform(dataset)
    training_set, test_set = (part.repartition(WORKERS) for part in dataset.randomSplit([0.8, 0.2], seed=1))
    training_set.cache()
    test_set.cache()
    assert training_set.count() + test_set.count() == 600

    convnet = Sequential()
    convnet.add(Convolution2D(4, (3, 3), padding="valid", input_shape=(SIDE, SIDE, 1)))
    convnet.add(Activation("relu"))
    convnet.add(MaxPooling2D(pool_size=(2, 2)))
    convnet.add(Flatten())
    convnet.add(Dense(CLASSES))
    convnet.add(Activation("softmax"))
    with pytest.warns(UserWarning, match="master_port does nothing"):
        trainer = ADAG(keras_model=convnet, worker_optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"],
                       num_workers=WORKERS, batch_size=16, communication_window=5, num_epoch=5, learning_rate=0.05, master_port=5000,
                       features_col="matrix", label_col="label_encoded")  # fmt: skip
    trainer.set_parallelism_factor(2)
    trained_model = trainer.train(training_set)

    def evaluate_accuracy(model, test_set, features="matrix"):
        evaluator = AccuracyEvaluator(prediction_col="prediction_index", label_col="label")
        predictor = ModelPredictor(keras_model=model, features_col=features)
        transformer = LabelIndexTransformer(output_dim=CLASSES)
        test_set = test_set.select(features, "label")
        test_set = predictor.predict(test_set)
        test_set = transformer.transform(test_set)
        return evaluator.evaluate(test_set)

    assert evaluate_accuracy(trained_model, test_set) > 0.9
    assert trainer.get_training_time() > 0
    updates = trainer.parameter_server.num_updates
    assert str(updates).isdigit() and updates == trainer.num_updates == trainer.num_updates() == len(trainer.get_history()) > 0
    assert trainer.job.learning_rate == 0.05  # which reached the ranks: ADAG takes a twelfth of Adam's progress
    assert left_behind() == []


@pytest.fixture(scope="module")
def events(spark):
    """Background and signal, as the workflow has them: numbers of several columns, an id, and a label of letters."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4)) * [1, 10, 100, 1] + [0, 5, 0, 1]
    signal = (x / [1, 10, 100, 1]).sum(1) > 1.5
    rows = [(i, *map(float, row), 1.0, "s" if s else "b") for i, (row, s) in enumerate(zip(x, signal, strict=True))]
    return spark.createDataFrame(rows, ["EventId", "mass", "angle", "energy", "jets", "Weight", "Label"])


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")  # pytest.warns repeats it
def test_the_workflow_script(events):
    features = events.columns
    for name in ("EventId", "Weight", "Label"):
        features.remove(name)
    dataset = VectorAssembler(inputCols=features, outputCol="features").transform(events)
    scaler = StandardScaler(inputCol="features", outputCol="features_normalized", withStd=True, withMean=True)
    dataset = scaler.fit(dataset).transform(dataset)
    dataset = StringIndexer(inputCol="Label", outputCol="label_index").fit(dataset).transform(dataset)
    dataset = OneHotTransformer(output_dim=2, input_col="label_index", output_col="label").transform(dataset)
    dataset = dataset.select("features_normalized", "label_index", "label")
    dataset = shuffle(dataset)
    training_set, test_set = dataset.randomSplit([0.7, 0.3], seed=1)
    training_set, test_set = precache(training_set, WORKERS), precache(test_set, WORKERS)

    model = Sequential()
    model.add(Dense(16, input_shape=(len(features),)))
    model.add(Activation("relu"))
    model.add(Dropout(0.2))
    model.add(Dense(2))
    model.add(Activation("softmax"))
    optimizer, loss = "adagrad", "categorical_crossentropy"

    def evaluate(model):
        predicted = ModelPredictor(keras_model=model, features_col="features_normalized").predict(test_set)
        predicted = LabelIndexTransformer(output_dim=2).transform(predicted)
        f1 = MulticlassClassificationEvaluator(metricName="f1", predictionCol="prediction_index", labelCol="label_index")
        return f1.evaluate(predicted)

    common = {"keras_model": model, "worker_optimizer": optimizer, "loss": loss, "features_col": "features_normalized",
              "label_col": "label", "num_epoch": 5, "batch_size": 16}  # fmt: skip
    results, trainers = {}, {"single": SingleTrainer(**common, learning_rate=0.1)}
    common |= {"num_workers": WORKERS, "communication_window": 5}
    trainers["aeasgd"] = AEASGD(**common, rho=5.0, learning_rate=0.1)
    with pytest.warns(UserWarning, match="Adagrad is not used; to keep it, use AEASGD"):
        trainers["eamsgd"] = EAMSGD(**common, rho=5.0, learning_rate=0.1, momentum=0.6)
    trainers["downpour"] = DOWNPOUR(**common, learning_rate=0.1)
    for name in ("eamsgd", "downpour"):  # the others train in other tests
        trainers[name].set_parallelism_factor(1)
        results[name] = evaluate(trainers[name].train(training_set))
        history = trainers[name].get_averaged_history()
        assert history["loss"][-1] < history["loss"][0]
    assert min(results.values()) > 0.85, results
    assert left_behind() == []
