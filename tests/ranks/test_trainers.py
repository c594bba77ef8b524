"""The trainers, with real ranks: what dist-keras' users call, and its defects, one regression each."""

import json
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import dkcore as dk
from dkcore import errors
from dkcore.trainers import TRAINERS, Trainer
from dkcore.training.serialization import serialize

SAMPLES, BATCH, EPOCHS = 500, 8, 2  # two shards of 250: 32 steps an epoch, the last of 2 samples


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Two classes that a line divides."""
    x = np.random.default_rng(0).standard_normal((SAMPLES, 4)).astype("float32")
    return x, (x.sum(1) > 0).astype("int32")


def model(*more: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), *more, keras.layers.Dense(2, activation="softmax")])


def options(**more) -> dict:
    return {"loss": "sparse_categorical_crossentropy", "batch_size": BATCH, "num_epoch": EPOCHS, **more}


def loss_of(trained: keras.Model, data: tuple) -> float:
    trained.compile(loss="sparse_categorical_crossentropy")
    return trained.evaluate(*data, verbose=0, return_dict=True)["loss"]


@pytest.mark.parametrize("name", sorted(set(TRAINERS) - {"AGN"}))
def test_every_trainer_trains(name, data):
    start = model()
    trainer = TRAINERS[name](start, **options(**({} if name == "EAMSGD" else {"worker_optimizer": keras.optimizers.Adam(0.02)})))
    trained = trainer.train(data, shuffle=True)  # dist-keras: TypeError
    assert loss_of(trained, data) < 0.9 * loss_of(start, data)

    # dist-keras loses the last, partial window of each epoch and the last, partial batch: here all steps are there.
    workers = trainer.job.workers
    steps = EPOCHS * -(-(SAMPLES // workers) // BATCH)
    for worker in range(workers):
        records = trainer.get_executor_history(worker)
        assert [record["step"] for record in records][-1] == steps
        assert all(np.isfinite(record["loss"]) for record in records)
    assert trainer.num_updates == len(trainer.get_history())  # dist-keras: TypeError
    assert trainer.num_updates == workers * EPOCHS * -(-(steps // EPOCHS) // trainer.window)
    assert trainer.report["samples"] == EPOCHS * SAMPLES
    assert trainer.get_training_time() > 0
    averaged = trainer.get_averaged_history()
    assert averaged["workers"].sum() == trainer.num_updates
    assert averaged["loss"][-1] < averaged["loss"][0]


def test_several_outputs_with_losses_and_metrics_of_their_own(data):
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    start = keras.Model(x, {"a": keras.layers.Dense(1, name="a")(x), "b": keras.layers.Dense(2, activation="softmax", name="b")(x)})
    losses = {"a": keras.losses.Huber(0.5), "b": "sparse_categorical_crossentropy"}
    metrics = {"a": ["mae"], "b": [keras.metrics.SparseCategoricalAccuracy(name="right")]}
    more = {"loss_weights": {"a": 0.5, "b": 1.0}, "batch_size": BATCH, "num_epoch": 2}
    trainer = dk.AEASGD(start, keras.optimizers.Adam(0.02), losses, metrics, **more)
    trained = trainer.train((data[0], {"a": data[0].sum(1, keepdims=True), "b": data[1]}))
    records = trainer.get_executor_history(0)
    assert records[-1]["b_right"] > records[0]["b_right"]
    assert {"a_mae", "b_right", "loss"} <= set(records[0])
    assert sorted(trained.predict(data[0][:3], verbose=0)) == ["a", "b"]


def test_agn_is_adag():
    assert dk.AGN is dk.ADAG


def test_a_schedule_and_an_optimizer_survive_the_journey(data):
    start = model()
    still = keras.optimizers.SGD(keras.optimizers.schedules.PolynomialDecay(0.5, 16, end_learning_rate=0.0), momentum=0.0)
    trainer = dk.DOWNPOUR(start, still, num_workers=1, **options(num_epoch=2))
    trainer.train(data, shuffle=False)
    losses = [record["loss"] for record in trainer.get_executor_history(0)]
    # After 16 steps the rate is zero: each later epoch sees the very same loss as the one before at the same step.
    trained_longer = dk.DOWNPOUR(start, still, num_workers=1, **options(num_epoch=3))
    trained_longer.train(data, shuffle=False)
    longer = [record["loss"] for record in trained_longer.get_executor_history(0)]
    a_epoch = len(losses) // 2
    np.testing.assert_allclose(longer[2 * a_epoch :], longer[a_epoch : 2 * a_epoch], rtol=1e-5)
    assert longer[a_epoch] < 0.95 * longer[0]


@pytest.mark.parametrize("loss", [keras.losses.Huber(0.1), keras.losses.CosineSimilarity(axis=0), keras.losses.LogCosh()])
def test_a_loss_arrives_whole(loss):
    """Keras forgets the delta of Huber and the axis of CosineSimilarity."""
    from dkcore.training.serialization import revive

    y, p = np.random.default_rng(0).uniform(size=(2, 5, 3)).astype("float32")
    assert float(revive(json.loads(json.dumps(serialize(loss))))(y, p)) == float(loss(y, p))


def test_validation_is_of_the_center(data):
    trainer = dk.AEASGD(model(), keras.optimizers.Adam(0.02), **options())
    trained = trainer.train(data, validation_data=data)
    assert trainer.report["test_loss"] == pytest.approx(loss_of(trained, data), rel=1e-4)
    assert 0.5 < trainer.report["test_accuracy"] <= 1
    center = [record for record in trainer.history.to_pylist() if record["worker"] == -1]
    assert len(center) == 1 + EPOCHS + 1  # before, after each epoch, and when all are done
    assert center[-1]["loss"] < center[0]["loss"]


def test_a_rule_of_my_own_travels(data):
    @dk.rule
    def half_way(c, w, *, pull=0.25):
        return c + pull * (w - c), w - pull * (w - c)

    start = model()
    trainer = Trainer(start, keras.optimizers.Adam(0.02), rule=half_way, pull=0.5, communication_window=4, **options())
    assert loss_of(trainer.train(data), data) < 0.9 * loss_of(start, data)
    assert (trainer.report["trainer"], trainer.report["rule"], trainer.job.scalars) == ("half_way", "half_way", {"pull": 0.5})


def test_custom_layers_travel_with_their_module(data, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from layers_of_mine import Twice

    start = model(Twice())
    trainer = dk.ADAG(start, **options(custom_modules=[sys.modules["layers_of_mine"].__file__]))
    assert isinstance(trainer.train(data).layers[0], Twice)


def test_an_error_in_a_rank_is_an_error_here(data, monkeypatch):
    """dist-keras printed it, and returned the untrained model as trained."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from layers_of_mine import Twice

    start = model(Twice())
    start.layers[0].fails = True
    trainer = dk.ADAG(start, **options(custom_modules=["layers_of_mine"]))
    with pytest.raises(errors.RankError, match=r"(?s)Traceback.*ArithmeticError.*the layer of mine failed") as caught:
        trainer.train(data)
    assert re.match(r"Error: rank \d on \S+: ArithmeticError: .*the layer of mine failed", str(caught.value).splitlines()[-1])
    with pytest.raises(ValueError, match="Call train first"):
        trainer.get_history()


def test_nan_in_a_rank_names_worker_and_step(data):
    x, y = data[0].copy(), data[1]
    x[1::2] = np.inf  # the shard of rank 1
    with pytest.raises(errors.RankError, match=r"Error: rank 1 on \S+: NotFiniteError: .* worker 1 at step 12.*$"):
        dk.ADAG(model(), **options()).train((x, y), shuffle=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_workers": 0}, ValueError, "workers of 1 or more"),
        ({"communication_window": 0}, ValueError, "window of 1 or more"),
        ({"batch_size": 2.5}, ValueError, "batch_size of 1 or more"),
        ({"num_epoch": True}, ValueError, "epochs of 1 or more"),
        ({"rule": "sgd"}, ValueError, "a rule of downpour"),
        ({"beta": 1.0}, TypeError, "unknown: beta"),
        ({"rule": "single"}, ValueError, "1 worker for plain training"),
        ({"worker_optimizer": "adamm"}, ValueError, "adamm"),
    ],
)
def test_bad_arguments_are_refused_before_any_rank_starts(change, error, message):
    with pytest.raises(error, match=message):
        dk.ADAG(model(), **options(**change))


def test_bad_data_is_refused_before_any_rank_starts(data):
    trainer = dk.ADAG(model(), **options())
    with pytest.raises(TypeError, match=r"data as a tuple \(x, y\)"):
        trainer.train(data[0])
    with pytest.raises(errors.DataError, match="arrays of one length"):
        trainer.train((data[0], data[1][:-1]))
    with pytest.raises(errors.DataError, match="3 samples"):
        dk.ADAG(model(), **options(num_workers=4)).train((data[0][:3], data[1][:3]))


def test_what_is_no_model_is_refused():
    with pytest.raises(errors.ModelError, match="a Keras model"):
        dk.ADAG("model")


def test_a_trained_model_that_is_not_finite_is_an_error_and_no_file(data):
    """A moving variance below zero: training sees the batch's own, and only the outputs of the trained model are NaN."""
    negative = keras.layers.BatchNormalization(momentum=1.0, moving_variance_initializer=keras.initializers.Constant(-1.0))
    trainer = dk.SingleTrainer(model(negative), "sgd", **options(num_epoch=1, batch_size=100))
    with pytest.raises(errors.RankError, match="Expected finite outputs of the trained model. Received: NaN or infinity") as raised:
        trainer.train(data)
    assert "No model was saved" in str(raised.value)
    unchecked = dk.SingleTrainer(model(negative), "sgd", **options(num_epoch=1, batch_size=100, check_finite=False))
    assert np.isnan(unchecked.train(data).predict(data[0][:1], verbose=0)).any()
