"""The merge between simulated nodes: when a round begins, how long it takes, and what it brings."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dkcore.simulation_node import Node

if TYPE_CHECKING:
    from dkcore.simulation import Simulation
    from dkcore.simulation_training import Training

__all__ = ["Merge"]


class Merge:
    """Rounds in which leaders take what their nodes committed, add it up over the link, and apply what the others did.

    Workers go on meanwhile: a round takes the longer of the link's time and one pass over memory, and occupies a lane of each node
    for one pass when it begins and for one when it lands. Leaders begin together, when all are ready: after ``merge_every``
    exchanges of their own node, or seconds, or (``auto``) when rounds take no more than ``merge_share`` of the time.
    Nodes that have finished are always ready; when all have, one last round brings what is left.
    """

    def __init__(self, plan: "Simulation", nodes: list[Node], training: "Training | None", wake: Callable[[float, bool], None]):
        """wake: asks for a call of `event` at that time, with what it is given."""
        self.nodes, self.training, self.wake = nodes, training, wake
        self.pass_time, self.link_time = plan.exchange_seconds, plan.merge_seconds
        self.pace, self.share = plan.merge_every, plan.merge_share
        self.due = self.pace if isinstance(self.pace, int) else -1  # exchanges of a node that make its leader ready
        self.began = self.busy = 0.0
        self.rounds, self.flying, self.taken = 0, False, [0] * len(nodes)
        if self.due < 0:
            wake(self.pause(0.0, max(self.link_time, self.pass_time)), False)

    def pause(self, end: float, length: float) -> float:
        """When the next round may begin, after one of that length."""
        if self.pace == "auto":
            return end + length * (1 - self.share) / self.share
        return max(self.began + self.pace, end)

    def ready(self, now: float) -> None:
        """A leader became ready, or the last worker of a node left: begin if no leader is missing."""
        left = [not node.live for node in self.nodes]
        if self.flying or not any(node.commits for node in self.nodes):
            return
        if all(left) or (self.due > 0 and all(node.commits >= self.due or gone for node, gone in zip(self.nodes, left, strict=True))):
            self.begin(now)

    def event(self, now: float, lands: bool) -> None:
        """A round lands, or it is time for the next."""
        if lands:
            self.land(now)
        elif any(node.live for node in self.nodes):  # the last round does not wait for its time
            self.begin(now)

    def begin(self, now: float) -> None:
        """Each leader takes what its node has committed since the last round."""
        self.flying, self.began = True, now
        taken = max([node.serve(now, self.pass_time) for node in self.nodes])
        for node in self.nodes:
            self.taken[node.index], node.commits = node.commits, 0
        if self.training:
            self.training.take()
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
        if self.due < 0 and any(node.live for node in self.nodes):
            self.wake(self.pause(end, end - self.began), False)
        else:
            self.ready(end)
