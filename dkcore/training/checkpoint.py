"""Checkpoints of a rank that trains: the callback that copies its part between two steps, and that puts a saved one back."""

from typing import TYPE_CHECKING, Any

from dkcore.training import worker_state
from dkcore.training.callback import Callback, Logs
from dkcore.training.exchange import Exchange
from dkcore.training.recorder import Recorder

if TYPE_CHECKING:
    from dkcore.arrays import Array

__all__ = ["Checkpoint", "StoppedError"]


class StoppedError(Exception):
    """Ends `fit`: this rank has copied its part of the last checkpoint."""


class Checkpoint(Callback):
    """The last of a rank's callbacks.

    origin: the epoch from which steps are counted. per_epoch: steps of this rank.
    """

    def __init__(self, exchange: Exchange, recorder: Recorder, origin: int, per_epoch: int):
        super().__init__()
        self.exchange, self.recorder, self.origin, self.per_epoch = exchange, recorder, origin, per_epoch
        self.stopped = False
        every = recorder.every
        self.every = {every.unit: int(every.number)} if every is not None and every.unit != "seconds" else {}
        self.counted = 0  # exchanges, at the last checkpoint that was due
        self.over: tuple[dict[str, Array], dict[str, Any]] | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        self.counted = self.exchange.exchanges
        self.recorder.start()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self.exchange.resting:
            return
        interval = self.every.get("exchanges")
        if interval and self.recorder.world.rank == 0 and self.exchange.exchanges >= self.counted + interval:
            self.counted = self.exchange.exchanges
            self.recorder.begin()
        if self.exchange.leases is not None or self.exchange.epoch_steps < self.per_epoch:  # or the end of the epoch comes at once
            self.look(self.exchange.epoch, self.exchange.epoch_steps)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        interval = self.every.get("epochs")
        if interval and self.recorder.world.rank == 0 and (epoch + 1 - self.origin) % interval == 0:
            self.recorder.begin()
        self.look(epoch + 1, 0)

    def look(self, epoch: int, step: int) -> None:
        """Copy this rank's part, if a checkpoint is due."""
        if (due := self.recorder.due()) is None:
            return
        number, last = due
        self.recorder.take(number, worker_state.copy_of(self.exchange), self.standing(epoch, step))
        if last:
            self.stopped = True
            self.exchange.leave()
            raise StoppedError

    def on_train_end(self, logs: Logs = None) -> None:
        """What this rank has to say from now on; its thread says it."""
        self.over = worker_state.copy_of(self.exchange), self.standing(self.exchange.epochs, 0)
        self.recorder.last_part = self.answer

    def answer(self, number: int) -> None:
        assert self.over is not None
        self.recorder.take(number, *self.over)

    def standing(self, epoch: int, step: int) -> dict[str, Any]:
        """Where this rank stands, for the manifest."""
        exchange = self.exchange
        return {
            "rank": self.recorder.world.rank, "epoch": epoch, "step": step, "steps": exchange.steps, "exchanges": exchange.exchanges,
            "pending": exchange.pending, "origin": self.origin, "per_epoch": self.per_epoch,
            "leases": [] if exchange.leases is None else exchange.leases.pending(),
        }  # fmt: skip
