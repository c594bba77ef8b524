"""Whether a worker makes progress, as its slot in the center shows it; for one that was stopped, or hangs."""

import time
from typing import TYPE_CHECKING

from dkcore.merge.rounds import GATE
from dkcore.seats.account import slot_of

if TYPE_CHECKING:
    from dkcore.seats.calls import Calls
    from dkcore.seats.hosted import Hosted

__all__ = ["Progress"]


class Progress:
    """Of one seat's workers. told: whether that it stands still was told already. starting: whether it has yet to make an exchange."""

    def __init__(self, calls: "Calls"):
        self.calls = calls
        self.seen: tuple[object, ...] = ()
        self.since = time.monotonic()
        self.told = False
        self.starting, self.first = True, (0, -1)  # the worker's pid, and the exchanges that it began with

    def standing(self, worker: "Hosted") -> float:
        """Seconds since this worker last made an exchange, or asked for anything; 0 while it waits for others."""
        now, state = time.monotonic(), self.state(worker)
        if state is None or state != self.seen:
            self.seen, self.since, self.told = state or (), now, False
        return now - self.since

    def state(self, worker: "Hosted") -> tuple[object, ...] | None:
        """What changes as it goes on; None while it waits for others."""
        center, membership = self.calls.center, self.calls.membership
        if worker.asking or center is None or self.calls.beginning is None:
            return None
        slot = slot_of(center, worker.pid) if worker.pid else None
        if slot is None:
            self.starting = True
            return worker.pid, worker.asked
        if self.first[0] != worker.pid:
            self.first = worker.pid, slot["exchanges"]
        self.starting = slot["exchanges"] == self.first[1]
        slots = [each["exchanges"] for each in center.slots() if each["state"] == "claimed"]
        in_rounds = membership is not None and membership.synchronous is not None
        if in_rounds:
            members, arrived = center.segment.await_members(GATE, 0.0)
            if arrived >= members:  # another node is waited for
                return None
        if (in_rounds or self.calls.job.max_staleness is not None) and slot["exchanges"] > min(slots, default=0):
            return None
        return worker.pid, worker.asked, slot["exchanges"], slot["begun"], slot["stripes_in"], slot["steps"]
