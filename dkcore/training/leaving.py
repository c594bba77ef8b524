"""A worker that is asked to leave a job while it runs: it finishes its window, and goes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dkcore.ranks.seated import Departure
from dkcore.training.callback import Callback, Logs
from dkcore.training.exchange import Exchange

if TYPE_CHECKING:
    from dkcore.ranks.seated import SeatedWorld

__all__ = ["Leave", "asked_of"]


def asked_of(world: "SeatedWorld") -> Callable[[], bool]:
    """What tells whether this worker is asked to leave."""
    requests = world.requests
    return (lambda: requests.asked) if world.guest else (lambda: requests.leaving(world.node_rank))


class Leave(Callback):
    """Goes between two windows, once somebody has asked for it.

    A worker that has joined ends its `fit`, and with it its part. One that the job began with raises `Departure`: to its seat it is lost,
    at a moment when nothing is under way.
    """

    def __init__(self, exchange: Exchange, world: "SeatedWorld"):
        super().__init__()
        self.exchange, self.guest, self.asked = exchange, world.guest, asked_of(world)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self.exchange.pending or not self.asked():
            return
        if not self.guest:
            raise Departure
        self._model.stop_training = True
