"""A simulated node: its memory and its center's version; and the bound that keeps workers together."""

from heapq import heapreplace

__all__ = ["Bound", "Node"]


class Node:
    """One node. Its memory carries ``lanes`` exchanges side by side at full speed; whoever comes then waits, first come first served.

    Exchanges of a node take equally long, so the order in which they begin is the order in which they commit.
    """

    __slots__ = ("commits", "index", "lanes", "live", "version")

    def __init__(self, index: int, workers: int, lanes: int):
        self.index, self.live = index, workers
        self.lanes = [0.0] * lanes  # when each is free again; a heap
        self.version = 0  # commits that the center has seen, the other nodes' included
        self.commits = 0  # of this node's workers since its leader last took part in a merge

    def serve(self, now: float, seconds: float) -> float:
        """Pass over memory for ``seconds`` as soon as a lane is free; when it will be done."""
        lanes = self.lanes
        end = (now if now > lanes[0] else lanes[0]) + seconds
        heapreplace(lanes, end)
        return end


class Bound:
    """Bounded staleness: nobody exchanges while more than ``ahead`` exchanges before the slowest live worker. Ho et al. 2013.

    That of all nodes, as if each knew at once how far the others are: a waiting worker makes its leader merge, and so ask them.
    """

    def __init__(self, workers: int, ahead: int):
        self.ahead, self.slowest = ahead, 0
        self.clock = [0] * workers
        self.at = {0: workers}  # how many live workers have made so many exchanges
        self.parked: dict[int, list[int]] = {}

    def admits(self, worker: int) -> bool:
        """Whether it may exchange now; if not, a later `tick` will name it."""
        clock = self.clock[worker]
        if clock <= self.slowest + self.ahead:
            return True
        self.parked.setdefault(clock, []).append(worker)
        return False

    def tick(self, worker: int, leaves: bool) -> list[int]:
        """Count one exchange of a worker; who has waited for it."""
        clock = self.clock[worker]
        self.clock[worker] = clock + 1
        self.at[clock] -= 1
        if not leaves:
            self.at[clock + 1] = self.at.get(clock + 1, 0) + 1
        free: list[int] = []
        while not self.at.get(self.slowest, 0) and any(self.at.values()):
            self.at.pop(self.slowest, None)
            self.slowest += 1
            free += self.parked.pop(self.slowest + self.ahead, [])
        return free
