"""The interface of a peer: a crew of workers and whatever serves them. It is served to the benchmark by `bench.harness.peer.serve`."""

import contextlib

import numpy as np

from bench.harness.crew import Crew

__all__ = ["MEMBERS", "Team"]

MEMBERS = 2  # workers that a team has; a case may let fewer of them work
PROVEN = 4_000_000  # parameters to exchange for a proof, if that is more than one exchange
MOST = 10  # exchanges of one worker and set for a proof


class Team:
    """Prepare a size, verify, run; again and again, in one set of processes. ``where`` is what a peer's own team adds."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.stack = contextlib.ExitStack()  # of what the size in hand needs

    @classmethod
    def of(cls, worker: str, *arguments, members: int = MEMBERS) -> "Team":
        """Of workers "module:name", which are on no core of their own: servers could not be."""
        return cls(Crew(members, worker, *arguments, cores="all"))

    def where(self, size: int, sets: int, variant: str) -> tuple:
        """Make a center; what workers must know to join it."""
        return (variant,)

    def prepare(self, size: int, workers: int, sets: int, variant: str) -> None:
        """Vectors of that size for so many workers, in ``sets`` to be used in rotation."""
        self.stack.close()
        self.sets, self.workers, self.size = sets, workers, size
        self.crew.together("prepare", size, workers, sets, *self.where(size, sets, variant))

    def verify(self) -> list[float]:
        """Exchange known numbers, all workers at once; AssertionError when something was lost or came twice.

        The seconds of one exchange, and of one that is given its delta: about.
        """
        times = max(1, min(MOST, PROVEN // (self.size * self.sets)))
        total = 2 * times * sum(range(1, self.workers + 1))
        about = []
        for given in (False, True):
            seconds = self.crew.together("learn", times, given, total)[: self.workers]
            about.append(max(float(np.median(each)) for each in seconds))
        self.crew.together("prove", total)
        return about

    def run(self, count: int, given: bool) -> list[list[float]]:
        """The seconds of ``count`` exchanges of each worker, from the gate."""
        return self.crew.together("run", count, given)[: self.workers]

    def close(self) -> None:
        """End what serves the workers, then them: a server that was forked here would keep their pipes open."""
        self.stack.close()
        self.crew.close()
