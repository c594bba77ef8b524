"""A worker that has joined a job, and is asked to leave it: it finishes its window, and goes."""

from typing import TYPE_CHECKING

from dkcore.training.callback import Callback, Logs
from dkcore.training.exchange import Exchange

if TYPE_CHECKING:
    from dkcore.ranks.world import World

__all__ = ["Leave"]


class Leave(Callback):
    """Ends `fit` between two windows, once somebody has asked for it."""

    def __init__(self, exchange: Exchange, world: "World"):
        super().__init__()
        self.exchange, self.requests = exchange, world.requests

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if not self.exchange.pending and self.requests.asked:
            self._model.stop_training = True
