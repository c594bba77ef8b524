"""The common start: every worker compiles and traces on its first batch, then all go on at once."""

from typing import TYPE_CHECKING

from dkcore.merge.recovery import start_together
from dkcore.training.callback import Callback, Logs
from dkcore.training.exchange import Exchange

if TYPE_CHECKING:
    from dkcore.ranks.world import World

__all__ = ["Gate"]


class Gate(Callback):
    """After its first execution each worker waits here until all have done theirs, before anything is exchanged.

    Without it a worker whose framework starts later has the center to itself when the others are through, and neither
    staleness nor samples per second say anything. Ranks without samples call `pass_through`.
    """

    def __init__(self, world: "World", exchange: Exchange):
        super().__init__()
        self.world, self.exchange, self.passed = world, exchange, False

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if not self.exchange.resting:
            self.pass_through()

    def on_train_end(self, logs: Logs = None) -> None:
        self.pass_through()

    def pass_through(self) -> None:
        """Wait for all ranks, the first time."""
        if self.passed:
            return
        self.passed = True
        start_together(self.world)
