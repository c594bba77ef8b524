"""dkcore itself, by its public way: the prepared call that ``dkcore.Exchange`` uses.

What it is given to add is in ``w``, where the center comes back; the rule for it is born here, as a user's would be.
"""

import contextlib
from functools import partial

import numpy as np

import dkcore as dk
from bench.harness.peer import serve
from bench.peers.team import Team
from bench.peers.worker import WINDOW, Worker

__all__ = ["Many", "Ours"]


@dk.rule
def handed(c, w):
    """The worker holds what is to be added."""
    c = c + w
    return c, c


class Ours(Worker):
    """A slot of each center."""

    needs_delta = False

    def join(self, names: list[str]) -> None:
        self.centers = [dk.Center.attach(name) for name in names] if self.working else []
        self.slots = [center.worker(self.index) for center in self.centers]

    def leave(self) -> None:
        for center in self.centers:
            center.close()

    def exchange(self, place: int):
        return partial(self.slots[place].call(dk.rules.adag, p=self.p[place], window=WINDOW).flat, self.w[place])

    def given(self, place: int):
        return partial(self.slots[place].call(handed).flat, self.w[place])

    def hand(self, place: int) -> np.ndarray:
        return self.w[place]

    def pull(self, place: int) -> None:
        self.slots[place].pull_call().flat(self.w[place])

    def prove(self, total: int) -> None:
        super().prove(total)
        for place in self.sets:  # and the center with them, for it would double whenever it is handed itself
            self.w[place].fill(0)
            self.p[place].fill(0)


class Many:
    """A worker of every size that was asked for, so that each is prepared and proven only once, for all peers."""

    def __init__(self, index: int, members: int) -> None:
        self.index, self.members, self.made = index, members, {}

    def prepare(self, size: int, workers: int, sets: int, names: list[str]) -> None:
        """Go on with the one of those names, or make it."""
        if names[0] not in self.made:
            self.made[names[0]] = Ours(self.index, self.members)
            self.made[names[0]].prepare(size, workers, sets, names)
        chosen = self.made[names[0]]
        self.run, self.learn, self.prove = chosen.run, chosen.learn, chosen.prove

    def close(self) -> None:
        for worker in self.made.values():
            worker.close()


class OurTeam(Team):
    """Centers of zeros for every size that was asked for."""

    def __init__(self, crew) -> None:
        super().__init__(crew)
        self.made = contextlib.ExitStack()
        self.centers: dict[tuple, list[dk.Center]] = {}
        self.about: dict[tuple, list[float]] = {}

    def where(self, size: int, sets: int, variant: str) -> tuple:
        key = size, self.workers, sets
        if key not in self.centers:
            self.centers[key] = [self.made.enter_context(dk.Center.create(np.zeros(size, np.float32))) for _ in range(sets)]
        return ([center.name for center in self.centers[key]],)

    def verify(self) -> list[float]:
        key = self.size, self.workers, self.sets
        if key not in self.about:
            self.about[key] = super().verify()
            for center in self.centers[key]:
                center.restore(np.zeros(self.size, np.float32))
        return self.about[key]

    def close(self) -> None:
        super().close()
        self.made.close()


if __name__ == "__main__":
    serve(OurTeam.of("bench.peers.ours:Many"))
