"""Where all ranks of a job meet at a center: the end of a training, and the rounds of synchronous methods."""

import os
import time
from typing import TYPE_CHECKING

from dkcore.errors import DkcoreError, MissingError, StripeTimeoutError, expected
from dkcore.merge import FINISH, ROUND, Merge
from dkcore.merging import Merging
from dkcore.rule import Rule
from dkcore.survival import refuse_intolerant
from dkcore.synchronous import Synchronous

if TYPE_CHECKING:
    from dkcore.center import Center
    from dkcore.nodes import World

__all__ = ["Meeting", "meet"]

SLICE = 0.2  # seconds between two looks at signals


class Meeting:
    """This rank's part in it. Made by `meet`.

    merge: the thread that merges this node's center, on its leader, if the job needs one. final: whether the center is, since no
    worker joined after the last `finish`.
    """

    def __init__(self, center: "Center", world: "World", merge: Merge | None, synchronous: Synchronous | None):
        self.segment, self.merge, self.synchronous = center.segment, merge, synchronous
        self.leader, self.node_size, self.nodes = world.leader, world.node_size, world.nodes
        self.final = self.closed = False
        self.member = synchronous is not None  # whether rounds wait for this rank

    def begin(self, rule: "Rule | Synchronous") -> None:
        """A worker of this rank is going to exchange by a rule."""
        self.final = False
        if self.merge is not None:
            self.merge.rule = self.merge.rule or rule

    def learn(self, rule: "Rule | Synchronous", scalars: dict[str, float]) -> None:
        """The same, and its scalars, which have to be those of all nodes."""
        self.begin(rule)
        if self.synchronous and not self.member:  # it left at the end of another training
            self.segment.change_members(ROUND, 1)
            self.member = True
        given = ", ".join(f"{name}={value:g}" for name, value in sorted(scalars.items()))
        self.segment.declare_rule(f"{rule.name}({given})")
        if self.merge is not None and self.synchronous:
            self.merge.halves.scalars.update(scalars)

    def round(self, timeout: float) -> None:
        """Hand-in is done: wait until the center has taken its step for all."""
        ticket, until = self.segment.arrive(ROUND), time.monotonic() + timeout
        while not self.segment.wait(ROUND, ticket, SLICE):
            if time.monotonic() > until:
                members, arrived = self.segment.await_members(ROUND, 0.0)
                received = f"{arrived} of {members} on this node" if arrived < members else "all of this node, but not of the others"
                raise StripeTimeoutError(expected(f"all workers at the round within {timeout:g} s", received, "Are some much slower?"))

    def leave_rounds(self) -> None:
        """This worker takes part in no further round, before it trains again."""
        if self.member:
            self.segment.change_members(ROUND, -1)
            self.member = False

    def finish(self) -> None:
        """See `Center.finish`."""
        self.leave_rounds()
        if self.leader:
            _, arrived = self.gather()
            if self.merge is not None:
                self.merge.finish(arrived + 1)
            self.segment.open_gate(FINISH, arrived)
        else:
            ticket = self.segment.arrive(FINISH)
            while not self.segment.wait(FINISH, ticket, SLICE):
                pass  # as long as the slowest worker takes; a rank that dies ends the job, a broken center raises
        self.final, self.member = True, self.synchronous is not None

    def gather(self) -> tuple[int, int]:
        """Wait for the other ranks of this node to finish, or to close; how many have not closed, and how many finish."""
        while True:
            members, arrived = self.segment.await_members(FINISH, SLICE)
            self.segment.check()
            if arrived >= members:
                return members, arrived

    def mourn(self, rank: int) -> None:
        """A rank of this node, not its leader, died: nobody waits for it any longer."""
        if self.leader:
            self.segment.change_members(FINISH, -1)
            if self.synchronous:
                self.segment.change_members(ROUND, -1)

    def close(self) -> None:
        """This rank is through; the leader waits for the others of its node, and for the other leaders."""
        if self.closed:
            return
        self.closed = True
        self.leave_rounds()
        if not self.leader:
            self.segment.change_members(FINISH, -1)
        elif self.merge is not None:
            while self.gather()[0]:  # some finish, though this rank does not: they may train on
                self.finish()
                self.leave_rounds()
            if not self.final:
                self.merge.finish()
            self.merge.close()


def meet(center: "Center", world: "World", rule: "Rule | Synchronous | None", settings: Merging) -> Meeting:
    """The meeting of all ranks at their centers; every rank calls it, with the same rule and settings, or every rank raises."""
    synchronous = rule if isinstance(rule, Synchronous) else None
    needed = world.nodes > 1 or synchronous is not None
    refuse_differences(world, rule, settings)
    if settings.on_node_loss == "shrink" and world.size > 1:
        refuse_intolerant(os.environ)
    if needed:
        refuse_weak_threads(world)
    merge = None
    if world.leader:
        center.segment.set_members(FINISH, world.node_size - 1)
        if synchronous:
            center.segment.set_members(ROUND, world.node_size)
    leaders = world.comm.Split(0 if world.leader else 1, world.rank) if needed else None
    if needed and world.leader:
        merge = Merge(center, leaders, world.names, settings, rule, world.abort)
        merge.start()
    if needed:
        world.node.Barrier()  # what anybody exchanged before its leader knew what all began with, no other node would be told
    meeting = Meeting(center, world, merge, synchronous)
    if settings.on_node_loss == "shrink":
        world.tolerate(meeting.mourn)
    world.at_close(center.close)
    return meeting


def refuse_differences(world: "World", rule, settings: Merging) -> None:
    """DkcoreError on every rank when one has other settings, another rule or another dkcore."""
    import sys

    import dkcore

    mine = {"dkcore": dkcore.__version__, "byte order": sys.byteorder, "rule": rule and rule.to_dict(), **settings.to_dict()}
    for rank, theirs in enumerate(everyone := world.comm.allgather(mine)):
        for name, first in everyone[0].items():
            if theirs.get(name) != first:
                named = [value.get("name") if isinstance(value, dict) else value for value in (first, theirs.get(name))]
                what, received = f"the same {name} on every rank", f"{named[0]} on rank 0 and {named[1]} on rank {rank}"
                raise DkcoreError(expected(what, received, "Install and call it alike on all nodes."))


def refuse_weak_threads(world: "World") -> None:
    from mpi4py import MPI

    levels = {MPI.THREAD_SINGLE: "SINGLE", MPI.THREAD_FUNNELED: "FUNNELED", MPI.THREAD_SERIALIZED: "SERIALIZED"}
    weakest = world.comm.allreduce(MPI.Query_thread(), op=MPI.MIN)
    if weakest < MPI.THREAD_MULTIPLE:
        advice = "The merge runs beside the training. Take an MPI that has it, and leave mpi4py.rc.thread_level alone."
        raise MissingError(expected("an MPI with MPI_THREAD_MULTIPLE", f"MPI_THREAD_{levels[weakest]}", advice))
