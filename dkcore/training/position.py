"""Where a rank begins: the epoch, which decides the order of its rows, and the batches of it that are done already."""

from collections.abc import Callable
from typing import Any

import keras

from dkcore.training.callback import Callback, Logs
from dkcore.training.exchange import Exchange

__all__ = ["Position"]


class Position(Callback):
    """The first of a rank's callbacks. Called, it is the epoch of which the rows are asked for.

    The batches that are done come from the data once more, and are dropped: no step is taken with them, and `Exchange.resting` tells the
    other callbacks so. A number of batches that is no whole number of executions is rounded down. awake: called after them.
    """

    def __init__(self, exchange: Exchange, epoch: int, done: int, awake: Callable[[], None]):
        super().__init__()
        self.exchange, self.epoch, self.first, self.done, self.awake = exchange, epoch, epoch, done, awake

    def __call__(self) -> int:
        return self.epoch

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch = epoch
        if epoch == self.first:
            model, size = self._model, self._model.steps_per_execution
            self.done -= self.done % size if self.done < (self.params or {}).get("steps", 0) else 0
            self.exchange.done = epoch, self.done
            model.train_function = skipping(model, self.done // size, size, self.awake)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self.exchange.resting = self.epoch == self.first and batch < self.done


def skipping(model: keras.Model, executions: int, size: int, awake: Callable[[], None]) -> Callable[..., Any]:
    """The step function of a model, which does nothing the first times."""
    function: Callable[..., Any] = model.train_function
    if not executions:
        return function
    left = executions

    def step(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if not isinstance(arguments[-1], list):  # on torch the batches are taken already
            for _ in range(size):
                next(arguments[-1])
        if not left:
            model.train_function = function
            awake()
        return ({}, arguments[0]) if keras.backend.backend() == "jax" else {}  # JAX: the state, as it came

    return step
