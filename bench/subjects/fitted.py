"""A subject of a crew: a Keras model in ``fit``. Between two steps its weights are exchanged, and flat vectors in turn.

Imports Keras: only for processes whose environment names the backend.
"""

import time

import keras
import numpy as np

from bench.machine.caches import last_level
from bench.machine.memory import own_memory, peak
from dkcore.center import Center
from dkcore.replica.replica import Replica
from dkcore.rules import adag

__all__ = ["Fitted"]

BATCH = 32
WARM = 3  # steps before anything is measured
WIDTHS = {"4798010": (784, [1000, 2000, 1000], 10), "200variables": (16, [16] * 99, 16)}


class Fitted:
    """Models of its backend, one after another."""

    def __init__(self, index: int, workers: int) -> None:
        """Nothing is made before it is known of which shape."""

    def measure(self, shape: str, rounds: int) -> dict:
        """Seconds of the replica's exchange and of the flat one, a value a round; the level; bytes that the process grew.

        shape: a key of WIDTHS.
        """
        model, between = model_of(*WIDTHS[shape]), Between(rounds)
        x = np.random.default_rng(0).standard_normal(((rounds + WARM + 1) * BATCH, WIDTHS[shape][0]), np.float32)
        model.fit(x, np.zeros(len(x), np.int64), batch_size=BATCH, callbacks=[between], verbose=0)
        return {"replica": between.replica_seconds, "flat": between.flat_seconds, "level": between.replica.level, "grown": between.grown}


def model_of(inputs: int, hidden: list[int], outputs: int) -> keras.Model:
    """A perceptron that learns nothing: after a step its weights are what they were, so that a lost exchange shows."""
    layers = [keras.Input((inputs,)), *(keras.layers.Dense(width, "relu") for width in hidden), keras.layers.Dense(outputs)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


class Between(keras.callbacks.Callback):
    """Verifies after the first steps, then measures one round after each step."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.replica_seconds: list[float] = []
        self.flat_seconds: list[float] = []
        self.center = None

    def on_train_begin(self, logs=None) -> None:
        self.replica = Replica(self._model)
        self.scratch = np.ones(2 * last_level() // 8 if self.replica.size > 1e6 else 1)
        self.w = np.ones(self.replica.size, np.float32)
        self.p = np.ones(self.replica.size, np.float32)

    def on_train_batch_end(self, batch, logs=None) -> None:
        if batch == WARM - 1:
            self.verify()
        elif batch == WARM:
            assert np.array_equal(self.replica.read(), self.exchanged), "the next step of fit did not see the exchanged weights"
            del self.exchanged
            self.call, self.grown = self.prepare()
        elif batch > WARM:
            sides = [(self.replica_seconds, lambda: self.replica.run(self.call)), (self.flat_seconds, lambda: self.flat.flat(self.w))]
            for seconds, run in sides if batch % 2 else sides[::-1]:  # who comes first meets what the step left behind
                seconds.append(self.seconds(run))

    def on_train_end(self, logs=None) -> None:
        self.center.close()

    def verify(self) -> None:
        """Join a center, and verify one exchange against the formula in numpy."""
        weights = self.replica.read()
        self.center = Center.create(weights * 2)
        self.flat = self.center.worker(1).call(adag, p=self.p, check_finite=True, window=12)
        self.replica.run(self.center.worker(2).call(adag, p=np.zeros_like(weights), check_finite=True, window=12))
        center, self.exchanged = adag(weights * 2, weights, np.zeros_like(weights), window=12)
        assert np.array_equal(self.replica.read(), self.exchanged), "the replica's weights differ from the formula"
        assert np.array_equal(self.center.snapshot(), center), "the center differs from the formula"

    def prepare(self) -> tuple:
        """The exchange to be measured, and the bytes that it keeps and takes: what lies in memory after one, and the peak of another."""
        before = own_memory()
        call = self.center.worker(0).call(adag, check_finite=True, window=12)
        self.replica.run(call)
        return call, own_memory() - before + peak(lambda: self.replica.run(call))

    def seconds(self, run) -> float:
        """Of one run, with everything flushed out of the caches before."""
        np.add(self.scratch, 1, out=self.scratch)
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
