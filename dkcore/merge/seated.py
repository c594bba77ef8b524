"""The membership of a worker that a seat runs: the seat, which holds the same center, is the member, and merges."""

import weakref
from typing import TYPE_CHECKING, Any

from dkcore.errors import expected
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import Synchronous
from dkcore.merge.barriers import Membership, merges

if TYPE_CHECKING:
    from dkcore.engine.center import NodeCenter
    from dkcore.ranks.seated import SeatedWorld

__all__ = ["SeatedMembership", "sit_down"]


class SeatedMembership(Membership):
    """As `Membership`; what a worker may leave undone when it is killed is done by the seat."""

    def __init__(self, center: "NodeCenter", world: "SeatedWorld", synchronous: Synchronous | None):
        super().__init__(center, world, None, synchronous)
        self.line = world.line

    @property
    def sums(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.line.call("sums")
        return found

    def learn(self, rule: "Rule | Synchronous", scalars: dict[str, float]) -> None:
        self.final = False
        self.line.call("learn", scalars)

    def leave_rounds(self) -> None:
        if not self.left:
            self.line.call("leave_rounds")

    def barrier(self, name: str) -> None:
        if self.left:
            raise ValueError(expected("an open center", "a closed one", f"Come to the barrier {name!r} before close()."))
        self.line.call("barrier", name)

    def leave(self) -> None:
        """The seat leaves when this worker has come to its end."""
        self.left = True


def sit_down(center: "NodeCenter", world: "SeatedWorld", rule: "Rule | Synchronous | None") -> SeatedMembership:
    """Have the seat take part at this center; every worker calls it."""
    world.line.call("take_part", center.name)
    membership = SeatedMembership(center, world, rule if isinstance(rule, Synchronous) else None)
    membership.member = False
    weakref.finalize(center, membership.drop).atexit = False
    world.memberships.add(membership)
    assert membership.merging == merges(world, membership.synchronous)
    return membership
