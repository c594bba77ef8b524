"""The Keras callback: windows are counted truly, what is not finite stays out, and what does not fit is refused."""

import types

import keras
import numpy as np
import pytest

import dkcore as dk
from dkcore import errors

SAMPLES, BATCH = 29 * 4, 4  # 29 steps an epoch


@dk.rule
def odometer(c, w, *, window):
    """Each element of the center counts the steps of the windows that it was given; the worker is left alone."""
    return c + window + w * 0, w + c * 0


@dk.rule
def overshooting(c, w, p):
    """A center that is thrown far from all workers, to either side in turn."""
    return c - 3 * (w - p) - 9 * c, w


def model(seed: int = 0, **options) -> keras.Model:
    keras.utils.set_random_seed(seed)
    built = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)])
    built.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse", **options)
    return built


def data(samples: int = SAMPLES) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((samples, 3)).astype("float32")
    return x, x.sum(1, keepdims=True)


def zeros(built: keras.Model) -> np.ndarray:
    return np.zeros(dk.Replica(built).size, np.float32)


@pytest.mark.parametrize(("window", "executions"), [(1, 1), (12, 1), (29, 1), (100, 1), (12, 4), (4, 8)])
def test_every_step_is_in_one_window(window, executions):
    built = model(steps_per_execution=executions)
    with dk.Center.create(zeros(built)) as center:
        exchange = dk.Exchange(center, odometer, window=window)
        built.fit(*data(), batch_size=BATCH, epochs=2, verbose=0, callbacks=[exchange])
        assert exchange.steps == 2 * 29
        assert (center.snapshot() == 2 * 29).all()  # the partial windows too, with their real length
        per_epoch = -(-29 // max(window, executions))
        assert exchange.exchanges == len(exchange.history.records) == 2 * per_epoch


def test_a_training_that_is_stopped_within_an_epoch_loses_no_step():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 6:
                self.model.stop_training = True

    built = model()
    with dk.Center.create(zeros(built)) as center:
        exchange = dk.Exchange(center, odometer, window=12)
        built.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[exchange, Stop()])
        assert (center.snapshot() == 7).all()


def normalized() -> keras.Model:
    """Batch norm behind which a variance below zero would be NaN."""
    built = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(momentum=0.8), keras.layers.Dense(1)])
    built.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
    return built


def test_batch_norm_is_averaged_though_the_center_is_made_of_an_array():
    """The model knows which of its weights are statistics."""
    built = normalized()
    with dk.Center.create(dk.Replica(built).read()) as center:
        built.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[dk.Exchange(center, overshooting, window=5)])
        variance = center.snapshot()[-3:]
        assert ((variance > 0.1) & (variance < 2)).all()
        assert abs(center.snapshot()[:-6]).max() > 100


def test_a_center_that_others_average_wrongly_is_refused():
    built, method = normalized(), dk.rules.averaging
    with dk.Center.create(dk.Replica(built).read(), states=1) as center:
        center.membership = types.SimpleNamespace(synchronous=method, nodes=1)  # as of Center.of(array, world, rule=method)
        with pytest.raises(errors.LayoutError, match="the last 6 elements are statistics, as of the model. Received: the last 0"):
            built.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[dk.Exchange(center, method)])
        center.membership = None


def test_the_worker_joins_with_the_weights_of_the_center():
    built = model()
    start = np.linspace(-1, 1, dk.Replica(built).size, dtype=np.float32)
    with dk.Center.create(start) as center:
        built.optimizer.learning_rate = 0.0
        built.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[dk.Exchange(center, dk.rules.adag, window=5)])
        assert (dk.Replica(built).read() == start).all()
        assert (center.snapshot() == start).all()


def test_downpour_with_one_worker_is_plain_training():
    plain, through = model(1), model(1)
    plain.fit(*data(), batch_size=BATCH, shuffle=False, verbose=0)
    with dk.Center.create(dk.Replica(through).read()) as center:
        through.fit(*data(), batch_size=BATCH, shuffle=False, verbose=0, callbacks=[dk.Exchange(center, dk.rules.downpour, window=7)])
        np.testing.assert_allclose(center.snapshot(), dk.Replica(plain).read(), rtol=1e-4, atol=1e-6)
        assert (center.snapshot() == dk.Replica(through).read()).all()


def test_validation_of_an_epoch_sees_the_center():
    built, (x, y) = model(), data()
    with dk.Center.create(dk.Replica(built).read()) as center:
        exchange = dk.Exchange(center, dk.rules.adag, window=12)
        seen = built.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[exchange], validation_data=(x, y)).history["val_loss"][0]
        center.copy_to(built)
        assert built.evaluate(x, y, verbose=0) == pytest.approx(seen, rel=1e-5)


def test_a_metric_that_is_a_vector_is_left_out():
    class Each(keras.metrics.Metric):
        def update_state(self, y_true, y_pred, sample_weight=None):
            pass

        def result(self):
            return keras.ops.convert_to_tensor([1.0, 2.0])

    built = model(metrics=[Each(name="each"), "mae"])
    with dk.Center.create(zeros(built)) as center:
        exchange = dk.Exchange(center, odometer)
        built.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[exchange])
    assert {name for record in exchange.history.records for name in record[4]} == {"mae"}


def test_one_callback_serves_several_fits():
    built = model()
    built.optimizer.learning_rate = 0.0  # it joins with what the odometer counted, far from any sensible weights
    with dk.Center.create(zeros(built)) as center:
        exchange = dk.Exchange(center, odometer, window=12)
        for _ in range(2):
            built.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[exchange])
        assert (center.snapshot() == 2 * 29).all()
        assert [slot["state"] for slot in center.slots()] == ["done", "done"]


def test_monitors_see_how_far_a_worker_is():
    built = model()
    with dk.Center.create(zeros(built)) as center:
        exchange = dk.Exchange(center, odometer, rank=3, samples_per_epoch=SAMPLES, batch_size=BATCH, epochs=2)
        built.fit(*data(), batch_size=BATCH, epochs=2, verbose=0, callbacks=[exchange])
        (slot,) = center.slots()
        assert (slot["rank"], slot["steps"], slot["samples"], slot["total_samples"]) == (3, 58, 2 * SAMPLES, 2 * SAMPLES)
        assert slot["exchanges"] == exchange.exchanges == exchange.histogram[0] / center.stripes
        assert np.isfinite(slot["loss"])


def test_nan_stops_the_worker_and_spares_the_center():
    built, (x, y) = model(), data()
    x[10 * BATCH] = np.nan
    with dk.Center.create(dk.Replica(built).read()) as center:
        exchange = dk.Exchange(center, dk.rules.adag, window=4, rank=7)
        with pytest.raises(errors.NotFiniteError, match=r"worker 7 at step 12.*dense.*kernel.*check_finite=False"):
            built.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[exchange])
        assert np.isfinite(center.snapshot()).all()


def test_nan_passes_when_asked_to():
    built, (x, y) = model(), data()
    x[0] = np.nan
    with dk.Center.create(dk.Replica(built).read()) as center:
        built.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[dk.Exchange(center, dk.rules.adag, check_finite=False)])
        assert np.isnan(center.snapshot()).any()


def test_a_model_that_does_not_fit_the_center_is_refused():
    with dk.Center.create(np.zeros(5, np.float32)) as center:
        with pytest.raises(errors.LayoutError, match=r"Expected a model of 5 float32.*Received: 21 float32"):
            model().fit(*data(), verbose=0, callbacks=[dk.Exchange(center, dk.rules.adag)])


def test_a_model_of_the_same_size_but_another_layout_is_refused():
    built = model()
    with dk.Center.create(zeros(built), digest=dk.Replica(built).digest ^ 1) as center:
        with pytest.raises(errors.LayoutError, match="like that of the center"):
            built.fit(*data(), verbose=0, callbacks=[dk.Exchange(center, dk.rules.adag)])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rule": dk.rules.adag, "window": 0}, ValueError, "window of 1 or more"),
        ({"rule": dk.rules.adag, "window": 1.5}, ValueError, "window of 1 or more"),
        ({"rule": "adagg"}, errors.RuleError, "Did you mean .adag.?"),
        ({"rule": print}, errors.RuleError, "Expected a rule, or the name of one"),
        ({"rule": dk.rules.aeasgd, "rho": 1.0}, errors.RuleError, "unknown: rho"),
        ({"rule": dk.rules.downpour, "window": 5, "alpha": 1.0}, errors.RuleError, "unknown: alpha"),
    ],
)
def test_bad_arguments_say_what_was_expected(options, error, message):
    with dk.Center.create(np.zeros(5, np.float32)) as center, pytest.raises(error, match=message):
        dk.Exchange(center, **options)


def test_a_rule_with_state_needs_its_room():
    built = model()
    with dk.Center.create(zeros(built)) as center:
        with pytest.raises(errors.RuleError, match="1 state vectors.*states=1"):
            built.fit(*data(), verbose=0, callbacks=[dk.Exchange(center, dk.rules.adagrad)])
    with dk.Center.create(zeros(built), states=1) as center:
        built.fit(*data(), verbose=0, batch_size=BATCH, callbacks=[dk.Exchange(center, dk.rules.adagrad)])
        assert (center.snapshot(state=1) >= 0).all()
        assert center.snapshot(state=1).any()
