"""Subjects of crews: a worker that trains as a job's rank does, with and without exchanges; and a plain ``fit``.

Imports Keras: only for processes whose environment names the backend.
"""

import time
from pathlib import Path

import keras
import numpy as np

from bench.subjects.private import Private
from dkcore.center import Center
from dkcore.data import batches
from dkcore.data.shard import Shard
from dkcore.training import build, compilation
from dkcore.training.exchange import Exchange
from dkcore.training.job import Job

__all__ = ["Plain", "Trainee"]

ENDLESS = 1 << 30  # a window


class Trainee:
    """Rank ``index`` of ``workers`` of the job in ``directory``, with the center of that name."""

    def __init__(self, index: int, workers: int, directory: str, name: str) -> None:
        keras.utils.set_random_seed(index)
        job, shard = Job.load(directory), Shard(Path(directory) / "data", index, workers)
        self.model = build.build(job)
        compilation.compile_model(job, self.model, shard)
        self.dataset = batches.dataset(shard, job.backend, job.batch_size, seed=index)
        self.center = Center.attach(name)
        options = {"rank": index, "samples_per_epoch": shard.samples, "batch_size": job.batch_size}
        self.callback = Exchange(self.center, job.the_rule, job.window, **options)
        self.never = Exchange(self.center, job.the_rule, ENDLESS, **options)
        self.private = Private(job.the_rule, self.center.size, job.window)

    def exchanging(self) -> None:
        """An epoch with exchanges."""
        self.share_of(self.callback)

    def passing(self) -> None:
        """An epoch with passes over private memory where the exchanges would be."""
        self.share_of(self.private)

    def share_of(self, callback) -> None:
        start, before = time.perf_counter(), len(callback.durations)
        self.fit([callback])
        self.share = sum(callback.durations[before:]) / (time.perf_counter() - start)

    def endless(self) -> None:
        """An epoch of the same, with a window that never ends: one exchange after the last step."""
        self.fit([self.never])

    def alone(self) -> None:
        """An epoch without our callback."""
        self.fit([])

    def fit(self, callbacks: list) -> None:
        self.history = self.model.fit(self.dataset, verbose=0, shuffle=False, callbacks=callbacks).history

    def exchange_share(self) -> float:
        """Of the last epoch with exchanges, or with passes: the part of its time that they took."""
        return self.share

    def exchanges(self) -> int:
        """Made so far."""
        return self.callback.exchanges

    def loss(self) -> float:
        """Of the last epoch."""
        return self.history["loss"][-1]

    def close(self) -> None:
        """Leave the center."""
        self.center.close()


class Plain:
    """What a user would write without dkcore: ``model.fit(x, y, batch_size=32)`` in one process."""

    def __init__(self, index: int, workers: int, directory: str) -> None:
        keras.utils.set_random_seed(index)
        job, shard = Job.load(directory), Shard(Path(directory) / "data")
        self.model = build.build(job)
        self.model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        self.x, self.y = (np.array(array) for array in shard.arrays)
        self.batch_size = job.batch_size

    def warm(self) -> None:
        """Compile for both shapes of a batch."""
        few = self.batch_size + len(self.x) % self.batch_size
        self.model.fit(self.x[:few], self.y[:few], batch_size=self.batch_size, verbose=0)

    def fit(self) -> None:
        """An epoch."""
        self.model.fit(self.x, self.y, batch_size=self.batch_size, verbose=0)
