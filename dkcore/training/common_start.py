"""The common start: every worker compiles and traces on its first batch, then all go on at once."""

import time
from typing import TYPE_CHECKING

from dkcore.merge.recovery import is_loss
from dkcore.training.callback import Callback, Logs
from dkcore.training.exchange import Exchange

if TYPE_CHECKING:
    from dkcore.ranks.world import World

__all__ = ["Gate"]

NAP = 0.002  # seconds between two looks: a spinning wait would take the core from who still compiles


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
        try:
            request = self.world.comm.Ibarrier()
            while not request.Test():
                time.sleep(NAP)
        except Exception as error:
            if not (self.world.tolerant and is_loss(error)):  # without a lost node the others go on; the merge tells of it
                raise
