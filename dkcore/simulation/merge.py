"""The merge between simulated nodes: when a round begins, how long it takes, and what it brings."""

from collections.abc import Callable

from dkcore.simulation.node import Node
from dkcore.simulation.settings import Settings
from dkcore.simulation.training import Training

__all__ = ["Merge"]


class Merge:
    """Rounds in which leaders take what their nodes committed, add it up over the link, and apply what the others did.

    Workers go on meanwhile: a round takes the longer of the link's time and one pass over memory, and occupies a lane of each node
    for one pass when it begins and for one when it lands. It begins when one leader is ready, who calls the others: after
    ``merge_every`` exchanges of its node; or seconds after the last began; or (``auto``) when rounds take ``merge_share`` of the
    leader's core, for two passes over memory and for the bytes that it sends and receives. Without commits there is none.
    When all workers have left, one last round brings what is left.
    """

    def __init__(self, plan: Settings, nodes: list[Node], training: Training | None, wake: Callable[[float, bool], None]):
        """wake: asks for a call of `event` at that time, with what it is given."""
        self.nodes, self.training, self.wake = nodes, training, wake
        self.pass_time, self.link_time = plan.exchange_seconds, plan.merge_seconds
        every = plan.merge_every  # the only text is "auto"
        self.counted = isinstance(every, int)
        core_time = 2 * self.pass_time + 2 * plan.merge_bytes / plan.memory_bandwidth
        self.pause = core_time / plan.merge_share if isinstance(every, str) else every
        self.due = every if isinstance(every, int) else 0  # exchanges of a node that make its leader ready; 0: it is too early
        self.began = self.busy = 0.0
        self.rounds, self.flying, self.taken = 0, False, [0] * len(nodes)
        if not self.counted:
            wake(0.0 if isinstance(every, str) else self.pause, False)

    def ready(self, now: float) -> None:
        """A leader may be ready, or the last worker of a node left."""
        fresh = max([node.commits for node in self.nodes])
        alive = any(node.live for node in self.nodes)
        if fresh and not self.flying and (not alive or 0 < self.due <= fresh):
            self.begin(now, last=not alive)

    def event(self, now: float, lands: bool) -> None:
        """A round lands; or it is no longer too early for the next."""
        if lands:
            self.land(now)
        else:
            self.due = 1
            self.ready(now)

    def begin(self, now: float, last: bool) -> None:
        """Each leader takes what its node has committed since the last round."""
        self.flying, self.began = True, now
        taken = max([node.serve(now, self.pass_time) for node in self.nodes])
        for node in self.nodes:
            self.taken[node.index], node.commits = node.commits, 0
        if self.training:
            self.training.take(last)
        self.wake(max(taken, now + self.link_time), True)

    def land(self, now: float) -> None:
        """The others' commits reach each center, and count in its version."""
        end = max([node.serve(now, self.pass_time) for node in self.nodes])
        total = sum(self.taken)
        for node in self.nodes:
            node.version += total - self.taken[node.index]
        if self.training:
            self.training.land()
        self.rounds, self.flying, self.busy = self.rounds + 1, False, self.busy + now - self.began
        if not self.counted:
            self.due = 0
            self.wake(max(self.began + self.pause, end), False)
        self.ready(end)
