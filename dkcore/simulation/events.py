"""The event queue of a simulation: who exchanges next, and what that means for the others."""

from collections import defaultdict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import repeat

import numpy as np

from dkcore.simulation.merge import Merge
from dkcore.simulation.node import Bound, Node
from dkcore.simulation.settings import Settings
from dkcore.simulation.training import Training

__all__ = ["Queue", "spans"]

BLOCK = 1 << 15  # random numbers that are drawn at a time


def spans(plan: Settings) -> Iterator[float]:
    """Seconds of one window after another: sums of ``window`` independent steps, gamma distributed."""
    mean = plan.window * plan.step_time
    if plan.jitter == 0:
        yield from repeat(mean)
    random, shape = np.random.default_rng(plan.seed), plan.window / plan.jitter**2
    while True:
        yield from (random.standard_gamma(shape, BLOCK) * (mean / shape)).tolist()


class Queue:
    """Workers that compute a window, exchange, and compute again; one event an exchange, so that Python handles 10,000 workers.

    limit: seconds of simulated time. exchanges: after which each worker leaves; 0 for never.
    """

    def __init__(self, plan: Settings, limit: float, exchanges: int, training: Training | None = None):
        self.plan, self.limit, self.exchanges, self.training = plan, limit, exchanges, training
        parts = [plan.workers_of(index) for index in range(plan.nodes)]
        self.nodes = [Node(index, len(part), plan.lanes) for index, part in enumerate(parts)]
        self.home = [node for node, part in zip(self.nodes, parts, strict=True) for _ in part]
        self.pace = [plan.stragglers.get(worker, 1.0) for worker in range(plan.workers)]
        self.seen, self.count, self.stale = ([0] * plan.workers for _ in range(3))
        self.histogram: dict[int, int] = defaultdict(int)
        self.exchange_time, self.spans = plan.exchange_seconds, spans(plan)
        self.busy = self.end = 0.0
        self.events = [(self.work(worker, 0.0), worker) for worker in range(plan.workers)]
        heapify(self.events)
        self.merge = Merge(plan, self.nodes, training, self.wake) if plan.nodes > 1 else None
        self.bound = None if plan.max_staleness is None else Bound(plan.workers, plan.max_staleness)
        self.live = plan.workers

    def wake(self, time: float, lands: bool) -> None:
        """An event of the merge; of a number beyond all workers, so that these come first."""
        heappush(self.events, (time, self.plan.workers + (not lands)))

    def work(self, worker: int, now: float) -> float:
        """When a worker that begins a window now will have finished it."""
        span = next(self.spans) * self.pace[worker]
        end = now + span
        self.busy += span if end < self.limit else max(self.limit - now, 0.0)
        return end

    def run(self) -> None:
        """Until the limit, or until nobody is left."""
        events, workers, limit, merge = self.events, self.plan.workers, self.limit, self.merge
        while events and events[0][0] < limit:
            now, who = events[0]
            if who < workers:
                self.exchange(now, who)
            else:
                heappop(events)
                assert merge is not None  # whose event it is
                merge.event(now, who == workers)

    def exchange(self, now: float, who: int) -> None:
        """One worker has finished its window: it exchanges as soon as the memory of its node is free, and goes on."""
        if self.bound and not self.bound.admits(who):
            heappop(self.events)
            return
        node = self.home[who]
        end = node.serve(now, self.exchange_time)
        if end > self.limit:
            heappop(self.events)
            return
        staleness = node.version - self.seen[who]
        self.histogram[staleness] += 1
        self.stale[who] += staleness
        if self.training:
            self.training.exchange(who, node.index, staleness, self.live, end)
        node.version += 1
        self.seen[who] = node.version
        node.commits += 1
        self.count[who] += 1
        self.end = end
        leaves = self.count[who] == self.exchanges
        if leaves:
            self.leave(node, end)
        else:
            heapreplace(self.events, (self.work(who, end), who))
        if self.bound:
            for waiting in self.bound.tick(who, leaves):
                heappush(self.events, (end, waiting))
        if self.merge and node.commits == self.merge.due:
            self.merge.ready(end)

    def leave(self, node: Node, end: float) -> None:
        """A worker has made all its exchanges; its last event is still on top."""
        heappop(self.events)
        self.live -= 1
        node.live -= 1
        if self.merge and not node.live:
            self.merge.ready(end)
