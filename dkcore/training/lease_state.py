"""What a checkpoint says of leases, and what a job that goes on from it begins with.

Design:
(a) The leader of a node notes what is unsettled, then copies the center, then looks whether an exchange came between; if so it does both
    again, a few times. So the rows that count as settled are those that are in the copy of the center.
(b) A worker notes the batches that it has trained and not exchanged. On the same workers it has its weights back, and these batches in
    them: it holds them again, and its next exchange settles them. If it exchanged between its own copy and that of the center, they are
    settled there: then it begins with the center's weights.
(c) On other workers of as many nodes they are trained anew, since those weights are gone. On another number of nodes, or with batches of
    another size, the same fraction of the epoch counts as done.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from dkcore.checkpoints.manifest import Manifest
    from dkcore.ranks.world import World
    from dkcore.training.leasing import Leases
    from dkcore.training.resuming import Beginning

__all__ = ["Restart", "begin_leases", "epochs_done", "restart_of"]

Ranges: TypeAlias = list[tuple[int, int]]  # first, count


@dataclass(frozen=True)
class Restart:
    """Where the leases of a node go on: the ticket that is next, the ranges to be leased before, and those that each rank holds."""

    following: int
    waiting: Ranges = field(default_factory=list)
    held: dict[int, Ranges] = field(default_factory=dict)


def restart_of(manifest: "Manifest", node: int, nodes: int, batches: int, same: list[int], rows: bool = True) -> Restart:
    """Of a checkpoint of leased batches.

    batches: of an epoch now. same: the ranks of this node, if all are who they were; or none. rows: whether batches have the same rows.
    """
    states = [state for state in manifest.leases if state]
    if len(states) != nodes or states[node]["batches"] != batches or not rows:
        return Restart(round(epochs_done(manifest) * batches))
    state = states[node]
    standing = {rank["rank"]: [(first, count) for first, count in rank["leases"]] for rank in manifest.ranks if rank["rank"] in same}
    unsettled: Ranges = [(first, count) for first, count in state["unsettled"]]
    following = max([state["next"], *(first + count for ranges in standing.values() for first, count in ranges)])
    if following > state["next"]:
        unsettled.append((state["next"], following - state["next"]))
    unsettled = merged(unsettled)
    held = {rank: ranges for rank, ranges in standing.items() if all(within(each, unsettled) for each in ranges)}
    return Restart(following, unsettled, held)


def epochs_done(manifest: "Manifest") -> float:
    """How far the former nodes were on average, or workers where they had fixed parts."""
    far: list[float] = [
        (state["next"] - sum(count for _, count in state["unsettled"])) / state["batches"] for state in manifest.leases if state
    ]
    far = far or [rank["epoch"] + rank["step"] / rank["per_epoch"] for rank in manifest.ranks if rank["per_epoch"]]
    return sum(far) / len(far)


def merged(ranges: Ranges) -> Ranges:
    """The same tickets as few ranges, in order.

    >>> merged([(5, 2), (0, 3), (3, 2), (9, 1)])
    [(0, 7), (9, 1)]
    """
    out: Ranges = []
    for first, count in sorted(ranges):
        if out and sum(out[-1]) == first:
            out[-1] = out[-1][0], out[-1][1] + count
        else:
            out.append((first, count))
    return out


def within(part: tuple[int, int], ranges: Ranges) -> bool:
    """Whether a range is a part of one of those.

    >>> within((3, 2), [(0, 5)]), within((3, 4), [(0, 5)])
    (True, False)
    """
    return any(first <= part[0] and sum(part) <= first + count for first, count in ranges)


def begin_leases(leases: "Leases", begin: "Beginning", world: "World") -> None:
    """Before anybody leases: go on where the checkpoint was, or begin with an epoch; all ranks of a node call this.

    A worker that follows another one in its seat, or joins, finds them as they are.
    """
    leases.follow(begin)
    start = begin.leases or Restart(begin.epoch * leases.batches)
    if world.leader and begin.again is None:
        waiting: Any = np.array(start.waiting, np.uint64).reshape(-1, 2)
        leases.center.restore_leases(leases.batches, start.following, waiting)
    world.node.Barrier()
    if begin.whole:
        leases.resume(start.held.get(world.rank, []))
