"""A simulated node: its memory, its center's version, and the bound that keeps its workers together."""

from heapq import heapreplace

__all__ = ["Bound", "Node"]


class Node:
    """One node. Its memory carries ``lanes`` exchanges side by side at full speed; whoever comes then waits, first come first served.

    Exchanges of a node take equally long, so the order in which they begin is the order in which they commit.
    """

    __slots__ = ("bound", "commits", "index", "lanes", "live", "version")

    def __init__(self, index: int, workers: range, lanes: int, max_staleness: int | None):
        self.index, self.live = index, len(workers)
        self.lanes = [0.0] * lanes  # when each is free again; a heap
        self.version = 0  # commits that the center has seen, the other nodes' included
        self.commits = 0  # of this node's workers since its leader last took part in a merge
        self.bound = None if max_staleness is None else Bound(workers, max_staleness)

    def serve(self, now: float, seconds: float) -> float:
        """Pass over memory for ``seconds`` as soon as a lane is free; when it will be done."""
        lanes = self.lanes
        end = (now if now > lanes[0] else lanes[0]) + seconds
        heapreplace(lanes, end)
        return end


class Bound:
    """Bounded staleness: nobody begins a window more than ``ahead`` exchanges before the slowest live worker. Ho et al. 2013."""

    def __init__(self, workers: range, ahead: int):
        self.ahead, self.slowest = ahead, 0
        self.clock = dict.fromkeys(workers, 0)
        self.at = {0: len(workers)}  # how many live workers have made so many exchanges
        self.parked: dict[int, list[int]] = {}

    def tick(self, worker: int, *, leaves: bool = False) -> tuple[bool, list[int]]:
        """Count one exchange of a worker: whether it may go on, and which others may now."""
        clock = self.clock[worker]
        self.clock[worker] = clock + 1
        self.at[clock] -= 1
        if not leaves:
            self.at[clock + 1] = self.at.get(clock + 1, 0) + 1
        free: list[int] = []
        while not self.at.get(self.slowest, 0) and self.slowest <= clock + self.ahead:
            self.at.pop(self.slowest, None)
            self.slowest += 1
            free += self.parked.pop(self.slowest + self.ahead, [])
        goes = leaves or clock + 1 <= self.slowest + self.ahead
        if not goes:
            self.parked.setdefault(clock + 1, []).append(worker)
        return goes, free
