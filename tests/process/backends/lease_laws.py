"""What must hold of leased batches in ``fit`` on each Keras backend; tests/process/test_backends.py runs it once per backend.

The model counts: whenever it trains a row, the row's weight grows by the sample's weight. So the center tells what was trained.
"""

import threading

import keras
import numpy as np
import pytest

import dkcore as dk
from dkcore.data.batches import dataset
from dkcore.data.leased import Order, leased_dataset
from dkcore.data.shard import NodeShard, Shard
from dkcore.training.leasing import MORE_EPOCHS, Leases

BACKEND = keras.backend.backend()
ROWS, BATCH, WINDOW, EPOCHS = 43, 4, 3, 2  # 11 batches, of which the last has 3 rows


class Total(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return -y_pred[:, 0]


def counter(execution=1):
    rows = keras.Input((1,), dtype="int32", name="rows")
    count = keras.layers.Reshape((1,))(keras.layers.Embedding(ROWS, 1)(rows))
    model = keras.Model({"rows": rows}, count)
    model.compile(keras.optimizers.SGD(1.0), Total(reduction="sum"), steps_per_execution=execution, metrics=["mae"])
    return model


class Training:
    """One worker that trains on leased batches; others hold some of them meanwhile."""

    def __init__(self, center, execution=1, class_weight=None, weights=None):
        index = np.arange(ROWS)
        data = {"x_train": {"rows": index[:, None].astype(np.int32)}, "y_train": (index % 2).astype(np.int64)}
        if weights is not None:
            data["sample_weight_train"] = weights
        self.center, self.model = center, counter(execution)
        self.shard = NodeShard(Shard(data), [0], 1)
        self.exchange = dk.Exchange(center, "downpour", WINDOW, batch_size=BATCH, epochs=EPOCHS, samples_per_epoch=ROWS)
        self.leases = self.exchange.leases = Leases(center, self.shard, BATCH, WINDOW, EPOCHS)
        self.leases.join(0)
        self.order = Order(self.shard, BATCH, True, 7)
        self.data = leased_dataset(self.order, self.leases, BACKEND, class_weight=class_weight)

    def fit(self, *callbacks):
        first = self.leases.first()
        options = {"initial_epoch": first, "epochs": EPOCHS + MORE_EPOCHS, "verbose": 0, "shuffle": False}
        return self.model.fit(self.data, callbacks=[self.exchange, self.leases, *callbacks], **options)


@pytest.fixture
def center():
    with dk.Center.create(np.zeros(ROWS, np.float32)) as made:
        yield made


executions = pytest.mark.parametrize("execution", [1] if BACKEND == "torch" else [1, 2, 4])


@executions
def test_each_row_is_trained_once_an_epoch(center, execution):
    training = Training(center, execution)
    history = training.fit()
    np.testing.assert_array_equal(center.snapshot(), EPOCHS)
    assert history.epoch == [0, 1], "more epochs than the data has"
    assert training.leases.samples_in(training.exchange.steps) == EPOCHS * ROWS
    windows = -(-11 // max(WINDOW, -(-WINDOW // execution) * execution))
    assert training.exchange.exchanges == EPOCHS * windows


@executions
def test_what_another_gives_back_is_trained_by_whoever_leases_next(center, execution):
    """Three batches of the first epoch come back in the second; two of the second after all others were trained."""
    training = Training(center, execution)
    early, late = center.worker(1), center.worker(2)
    assert early.lease(3) == (0, 3)

    class Return(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                np.testing.assert_array_equal(np.bincount(center.snapshot().astype(int), minlength=2), [3 * BATCH, ROWS - 3 * BATCH])
                early.release()

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                early.release()
                assert late.lease(3) == (0, 3), "what went back is leased first"
                assert late.lease(2) == (11, 2)
                self.timer = threading.Timer(0.3, late.release)
                self.timer.start()

    back = Return()
    history = training.fit(back)
    back.timer.join()
    np.testing.assert_array_equal(center.snapshot(), EPOCHS)
    assert training.exchange.epoch == EPOCHS - 1 and len(history.epoch) >= EPOCHS
    assert center.leases["returned"] == 3 + 5 and center.leases["held"] == 0


def test_weights_of_samples_and_classes_arrive(center):
    weights = np.where(np.arange(ROWS) % 3 == 0, 2.0, 1.0).astype(np.float32)
    Training(center, weights=weights).fit()
    np.testing.assert_array_equal(center.snapshot(), EPOCHS * weights)


def test_weights_of_classes_arrive(center):
    Training(center, class_weight={0: 1.0, 1: 3.0}).fit()
    np.testing.assert_array_equal(center.snapshot(), EPOCHS * np.where(np.arange(ROWS) % 2, 3.0, 1.0))


def test_a_training_that_stops_gives_back_what_it_has_not_exchanged(center):
    training = Training(center)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if training.exchange.steps == 5:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        training.fit(Stop())
    training.leases.worker.release()
    assert (center.leases["next"], center.leases["waiting"]) == (6, 3)
    assert center.snapshot().sum() == 3 * BATCH
    Training(center).fit()
    np.testing.assert_array_equal(center.snapshot(), EPOCHS)


def test_one_worker_trains_rows_in_the_order_of_fixed_shards(center):
    training = Training(center)
    for epoch in range(3):
        np.testing.assert_array_equal(training.order.rows(epoch, 0, 11), Shard({"x_train": np.zeros(ROWS)}).rows(epoch, seed=7))


def test_one_worker_gets_the_weights_of_fixed_shards_bit_for_bit():
    x = np.random.default_rng(0).standard_normal((ROWS, 3)).astype(np.float32)
    data = {"x_train": x, "y_train": (x.sum(1) > 0).astype(np.int64)}
    weights = []
    for sharding in ("fixed", "dynamic"):
        keras.utils.set_random_seed(1)
        layers = [keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dropout(0.2), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        with dk.Center.create(np.concatenate([np.ravel(each) for each in model.get_weights()])) as center:
            exchange = dk.Exchange(center, "downpour", WINDOW, batch_size=BATCH, epochs=EPOCHS, samples_per_epoch=ROWS)
            if sharding == "fixed":
                rows = dataset(Shard(data), BACKEND, BATCH, seed=7, epoch=lambda exchange=exchange: exchange.epoch)
                model.fit(rows, epochs=EPOCHS, callbacks=[exchange], verbose=0, shuffle=False)
            else:
                shard = NodeShard(Shard(data), [0], 1)
                leases = exchange.leases = Leases(center, shard, BATCH, WINDOW, EPOCHS)
                leases.join(0)
                leased = leased_dataset(Order(shard, BATCH, True, 7), leases, BACKEND)
                options = {"initial_epoch": leases.first(), "epochs": EPOCHS + MORE_EPOCHS, "verbose": 0, "shuffle": False}
                model.fit(leased, callbacks=[exchange, leases], **options)
            weights.append(center.snapshot())
    np.testing.assert_array_equal(*weights)
