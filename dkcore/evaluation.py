"""Evaluating the center during training: rank 0 borrows its own model for it, and takes its own weights back."""

import time
from collections.abc import Mapping

import keras

from dkcore.exchange import Exchange

__all__ = ["Evaluation"]


class Evaluation(keras.callbacks.Callback):
    """Evaluates the center on test data at the begin of training and after each epoch of this worker.

    Attributes:
        points: a dict each: time (s, as in the history), epoch, and what ``evaluate`` returns.
        seconds: spent on it after the begin, which the report takes off this worker's training time.
    """

    def __init__(self, exchange: Exchange, x, y, batch_size: int = 1024):
        super().__init__()
        self.worker, self.x, self.y, self.batch_size = exchange, x, y, batch_size
        self.points: list[dict[str, float]] = []
        self.seconds = 0.0

    def on_train_begin(self, logs: Mapping | None = None) -> None:
        self.evaluate(self._model, 0)

    def on_epoch_end(self, epoch: int, logs: Mapping | None = None) -> None:
        start = time.time()
        mine = self.worker.replica.read()
        self.worker.replica.write(self.worker.center.snapshot())
        self.evaluate(self._model, epoch + 1)
        self.worker.replica.write(mine)
        self.seconds += time.time() - start

    def final(self, model: keras.Model) -> None:
        """Once more, when all workers are done and the model has the weights of the center."""
        self.evaluate(model, self.points[-1]["epoch"])

    def evaluate(self, model: keras.Model, epoch: int) -> None:
        now = time.time() - self.worker.started
        values = model.evaluate(self.x, self.y, batch_size=self.batch_size, verbose=0, return_dict=True)
        self.points.append({"time": now, "epoch": epoch, **{name: float(value) for name, value in values.items()}})
