"""Where all ranks of a job meet at a center: the end of a training, and the rounds of synchronous methods."""

import os
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dkcore.errors import StripeTimeoutError, expected
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import Synchronous
from dkcore.merge.cut import Cut, Start, resume
from dkcore.merge.membership import LEFT
from dkcore.merge.merger import SLICE, Merge
from dkcore.merge.rounds import GATE
from dkcore.merge.settings import Merging
from dkcore.ranks.agreement import agree, attempt

if TYPE_CHECKING:
    from dkcore.engine.center import NodeCenter
    from dkcore.ranks.world import World

__all__ = ["Membership", "merges", "take_part"]


class Membership:
    """This rank's part in it. Made by `take_part`.

    merge: the thread that merges this node's center, on its leader, if the job needs one. final: whether this rank finished, and no
    worker of it joined since. finished_at: the versions of the center when all had finished. exchanged: then, by workers of this.
    """

    def __init__(self, center: "NodeCenter", world: "World", merge: Merge | None, synchronous: Synchronous | None):
        self.center, self.segment, self.merge, self.synchronous = weakref.ref(center), center.segment, merge, synchronous
        self.world = world
        self.place, self.node_size, self.nodes = world.node_rank, world.node_size, world.nodes
        # Whose phase says that the center is final: the node's, which its merge tells, or those of all its ranks.
        self.deciders = (world.node_size, world.node_size + 1) if merges(world, synchronous) else (0, world.node_size)
        self.phase, self.pid = 0, os.getpid()
        self.final = self.left = False
        self.finished_at: np.ndarray | None = None
        self.exchanged: dict[int, int] = {}  # by slot
        self.member = synchronous is not None  # whether rounds wait for this rank

    @property
    def merging(self) -> bool:
        """Whether leaders merge centers, or take the steps of a synchronous method."""
        return self.deciders[0] > 0

    @property
    def sums(self) -> "Mapping[str, object] | None":
        """What the merges of this node came to, on its leader, for the report; None where there is no other node."""
        return self.merge.rounds.sums() if self.merge is not None and self.nodes > 1 else None

    @property
    def cut(self) -> Cut | None:
        """Copies of this node for checkpoints, which its merge takes; None on other ranks, and where there is no merge."""
        return None if self.merge is None else self.merge.rounds.cut

    def wake(self) -> None:
        """Have the merge of this node look whether a copy is due."""
        if self.merge is not None:
            self.merge.rounds.changed.set()

    def begin(self, rule: "Rule | Synchronous") -> None:
        """A worker of this rank is going to exchange by a rule."""
        self.final = False
        if self.merge is not None:
            self.merge.rounds.rule = self.merge.rounds.rule or rule

    def learn(self, rule: "Rule | Synchronous", scalars: dict[str, float]) -> None:
        """The same, and its scalars, which have to be those of all nodes."""
        self.begin(rule)
        if self.synchronous and not self.member:  # it left at the end of another training
            self.segment.change_members(GATE, 1)
            self.member = True
        given = ", ".join(f"{name}={value:g}" for name, value in sorted(scalars.items()))
        self.segment.declare_rule(f"{rule.name}({given})")
        if self.merge is not None and self.merge.rounds.hand_ins is not None:
            self.merge.rounds.hand_ins.scalars.update(scalars)

    def round(self, timeout: float) -> None:
        """Hand-in is done: wait until the center has taken its step for all."""
        ticket, until = self.segment.arrive(GATE), time.monotonic() + timeout
        while not self.segment.wait(GATE, ticket, SLICE):
            if time.monotonic() > until:
                members, arrived = self.segment.await_members(GATE, 0.0)
                received = f"{arrived} of {members} on this node" if arrived < members else "all of this node, but not of the others"
                raise StripeTimeoutError(expected(f"all workers at the round within {timeout:g} s", received, "Are some much slower?"))

    def leave_rounds(self) -> None:
        """This worker takes part in no further round, before it trains again."""
        if self.member:
            self.segment.change_members(GATE, -1)
            self.member = False

    def finish(self) -> None:
        """See `Center.finish`."""
        self.barrier("finish()")
        self.finished_at, self.exchanged = self.segment.versions(), self.exchanges()
        self.final = True

    def barrier(self, name: str) -> None:
        """Wait until every rank that has not left has called this: one phase of the membership. name: of the barrier, for messages."""
        if self.left:
            raise ValueError(expected("an open center", "a closed one", f"Come to the barrier {name!r} before close()."))
        self.leave_rounds()
        self.phase += 1
        self.segment.reach(self.place, self.phase)
        if self.merge is not None:
            self.merge.finish(self.phase)
        while self.segment.await_phase(*self.deciders, self.phase, SLICE) < self.phase:
            pass  # as long as the slowest worker takes; a rank that dies ends the job, a broken center raises
        self.member = self.synchronous is not None

    def unfinished(self, others: bool) -> str:
        """Why the center is not final; empty when it is. One rank alone has to finish, too: its script is that of many.

        others: whether their exchanges count, too.
        """
        if not self.final or self.finished_at is None:
            return "none since the last training"
        now = self.exchanges()
        mine = any(now.get(slot, count) != count for slot, count in self.exchanged.items())
        same = not mine and (not others or np.array_equal(self.segment.versions(), self.finished_at))
        return "" if same else "exchanges since the last one"

    def exchanges(self) -> dict[int, int]:
        """How many each slot shows that a worker of this process has."""
        center = self.center()
        slots = () if center is None else center.slots()
        return {slot["slot"]: slot["exchanges"] for slot in slots if slot["pid"] == os.getpid()}

    def on_rank_death(self, place: int) -> None:
        """The rank of that place in the node, not its leader, died: nobody waits for it any longer."""
        if self.left and not (self.merge and self.merge.alone):
            return
        finishing = self.merge and self.segment.await_phase(place, place + 1, 0, 0.0) > self.merge.rounds.phase
        self.segment.reach(place, LEFT)
        if self.place == 0 and self.synchronous and not finishing:  # who waits in finish has left the rounds
            self.segment.change_members(GATE, -1)

    def leave(self) -> None:
        """This rank does not come again, and nobody waits for it; does not wait itself."""
        if not self.left and os.getpid() == self.pid:  # a forked child is no rank
            self.left = True
            self.leave_rounds()
            self.segment.reach(self.place, LEFT)

    def close(self, patience: float) -> bool:
        """Leave; True if this node's merge goes on for others after that many seconds: it closes the center when all have left."""
        self.leave()
        if self.merge is None:
            return False
        return not self.merge.wait(patience) and self.merge.go_on_alone()

    def end(self) -> None:
        """The end of this rank: let go of the center, if it still has it."""
        if (center := self.center()) is not None:
            center.let_go(0.0)

    def drop(self) -> None:
        """Nobody holds the center any longer: as `close`, without a word of what went wrong."""
        self.leave()
        if self.merge is not None and os.getpid() == self.pid:
            self.merge.go_on_alone()


def merges(world: "World", synchronous: Synchronous | None) -> bool:
    """Whether the leaders have anything to do."""
    return world.nodes > 1 or synchronous is not None


def take_part(
    center: "NodeCenter", world: "World", rule: "Rule | Synchronous | None", settings: Merging, start: Start | None = None
) -> Membership:
    """The membership of all ranks at their centers; every rank calls it after `validate_job`, or every rank raises.

    start: on leaders, what a checkpoint says of the merge.
    """
    synchronous = rule if isinstance(rule, Synchronous) else None
    merge = None
    if merges(world, synchronous):
        if world.leader and synchronous:
            center.segment.set_members(GATE, world.node_size)
        merge = start_merge(center, world, rule, settings, start)
        world.node.Barrier()  # what anybody exchanged before its leader knew what all began with, no other node would be told
    membership = Membership(center, world, merge, synchronous)
    if settings.on_node_loss == "shrink":
        world.tolerate(lambda rank: membership.on_rank_death(world.node_ranks.index(rank)))
    weakref.finalize(center, membership.drop).atexit = False  # who lets go of a center leaves it, too
    world.memberships.add(membership)
    gone = weakref.WeakMethod(membership.end)
    weakref.finalize(membership, world.at_close(lambda: (end := gone()) and end())).atexit = False
    return membership


def start_merge(
    center: "NodeCenter", world: "World", rule: "Rule | Synchronous | None", settings: Merging, start: Start | None
) -> Merge | None:
    """The merge of this node, on its leader; all ranks call it, and all raise when one leader cannot."""
    comm, failure = attempt(lambda: None if world.leaders is None else world.leaders.Dup())
    agree(world, failure)
    keeper = type(center)(center.segment, center.name)  # it may outlive this rank's use of the center
    arguments = (world.names, settings, rule, world.abort, world.node_size)
    merge, failure = attempt(lambda: None if comm is None else Merge(keeper, comm, *arguments))
    try:
        agree(world, failure)
    except BaseException:
        if merge is not None:
            merge.drop()
        raise
    if merge is not None:
        world.requests.want(0, last=False)
        merge.rounds.cut = Cut(world.requests)
        if start is not None:
            resume(merge.rounds, start)
        merge.start(world.at_close)
    return merge
