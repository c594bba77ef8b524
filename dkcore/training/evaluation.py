"""Evaluating the center during training: rank 0 borrows its own model for it, and takes its own weights back."""

import time
from collections.abc import Mapping
from typing import Any

import keras

from dkcore.report.history import History
from dkcore.training.callback import Callback, Logs, numbers_of
from dkcore.training.exchange import Exchange

__all__ = ["Evaluation"]


class Evaluation(Callback):
    """Evaluates the center on test data at the begin of training and after each epoch of this worker.

    Attributes:
        history: a record an evaluation, on the clock of the exchange's own history.
        last: what the last evaluation gave, by name.
        durations: seconds of each after an epoch. All but the last are within this worker's training time, and taken off it.
    """

    def __init__(self, exchange: Exchange, dataset: Any):
        super().__init__()
        self.exchange, self.dataset = exchange, dataset
        self.history = History()
        self.last: dict[str, float] = {}
        self.durations: list[float] = []

    def on_train_begin(self, logs: Logs = None) -> None:
        self.evaluate(self._model)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        start = time.time()
        mine = self.exchange.replica.read()
        self.exchange.replica.write(self.exchange.center.snapshot())
        values = self._model.evaluate(self.dataset, verbose=0, return_dict=True)
        self.exchange.replica.write(mine)
        self.durations.append(time.time() - start)
        self.note(start, values, self.durations[-1])

    def evaluate(self, model: keras.Model) -> None:
        """Evaluate a model that has the center's weights."""
        start = time.time()
        values = model.evaluate(self.dataset, verbose=0, return_dict=True)
        self.note(start, values, time.time() - start)

    def note(self, start: float, values: Mapping[str, Any], seconds: float) -> None:
        self.last = numbers_of(values)
        metrics = {name: value for name, value in self.last.items() if name != "loss"}
        when = max(start - self.exchange.started, 0.0)
        self.history.append(self.exchange.steps, when, self.exchange.epoch, self.last["loss"], metrics, seconds=seconds)
