"""A subject of crews: a worker that trains epochs of fixed shards, and epochs whose batches are leased; it may be made slower.

Imports Keras: only for processes whose environment names the backend.
"""

import time
from pathlib import Path

import keras

from bench.subjects.trainee import Trainee
from dkcore.data.leased import Order, leased_dataset
from dkcore.data.shard import NodeShard, Shard
from dkcore.training.job import Job
from dkcore.training.leasing import MORE_EPOCHS, Leases

__all__ = ["Leaser"]


class Leaser(Trainee):
    """As `Trainee`; all workers are on one node."""

    def __init__(self, index: int, workers: int, directory: str, name: str) -> None:
        super().__init__(index, workers, directory, name)
        self.job, self.index, self.epochs, self.slow = Job.load(directory), index, 0, Slow()
        self.shard = NodeShard(Shard(Path(directory) / "data", index, workers), [0], 1, sharers=workers)
        self.source, self.trained = Current(), 0
        self.leased_data = leased_dataset(Order(self.shard, self.job.batch_size, True, 0), self.source, self.job.backend)

    def delay(self, factors: list[float]) -> None:
        """From now on this worker takes so many times as long as it would, by its place in the list."""
        self.slow.factor = factors[self.index]

    def fixed(self) -> None:
        """An epoch of this worker's own shard."""
        self.fit([self.callback, self.slow])

    def leased(self) -> None:
        """What this worker gets of an epoch of all rows."""
        self.epochs += 1
        before, callback = self.callback.steps, self.callback
        callback.epochs = self.epochs
        leases = callback.leases = self.source.leases = Leases(self.center, self.shard, self.job.batch_size, self.job.window, self.epochs)
        leases.join(self.index)
        options = {"initial_epoch": leases.first() or 0, "epochs": self.epochs + MORE_EPOCHS}
        self.fit([callback, leases, self.slow], self.leased_data, **options)
        callback.leases, self.trained = None, callback.steps - before

    def fit(self, callbacks: list, data=None, **options) -> None:
        """An epoch, or more; its processor time is kept."""
        before = time.process_time()
        data = self.dataset if data is None else data
        self.history = self.model.fit(data, verbose=0, shuffle=False, callbacks=callbacks, **options).history
        self.used = time.process_time() - before

    def processor(self) -> float:
        """Seconds of processor time of the last epoch."""
        return self.used

    def steps(self) -> int:
        """Of the last epoch of leases."""
        return self.trained


class Current:
    """The leases of the epoch that is trained now: a job makes its dataset once, too."""

    leases: Leases

    def __getattr__(self, name: str):
        return getattr(self.leases, name)


class Slow(keras.callbacks.Callback):
    """Sleeps after each execution as long as makes the worker so many times slower."""

    factor = 1.0

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self.since = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self.factor > 1:
            time.sleep((time.perf_counter() - self.since) * (self.factor - 1))
        self.since = time.perf_counter()
