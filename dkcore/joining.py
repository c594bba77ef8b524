"""How the ranks of a world come to share one center: compare models, create it once a node, attach, and look again."""

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dkcore.center import SHARED_MEMORY
from dkcore.errors import DkcoreError, LayoutError, expected
from dkcore.guard import MARK
from dkcore.meeting import meet

if TYPE_CHECKING:
    from dkcore.center import Center
    from dkcore.nodes import World

__all__ = ["join"]


def join(kind: type["Center"], model, world: "World", *, rule, settings, timeout: float, note: str) -> "Center":
    """The center of this node with rank 0's weights; see `Center.of`. Every rank returns one, or every rank raises."""
    states = len(rule.states) if rule else 0
    replica, failure = None, None
    try:
        replica = replica_of(model)
    except DkcoreError as error:  # told to the others first: they would wait for ever in the next collective call
        failure = error
    refuse_differences(world, replica, failure)
    values = world.comm.bcast(replica.read() if world.rank == 0 else None, root=0)
    center, failure = None, None
    try:
        if world.leader:
            center = kind.create(values, slots=max(64, 2 * world.node_size), states=states, digest=replica.digest, note=note)
    except (DkcoreError, OSError) as error:
        failure = error
    name = world.node.bcast(center.name if center else None, root=0)
    if failure:
        raise failure
    if name is None:
        raise DkcoreError(expected("a center on this node", "none: rank 0 of the node could not create it", "Its error says why."))
    if center is None:
        center = kind.attach(name, timeout=timeout, size=replica.size, dtype=replica.dtype, digest=replica.digest)
    if world.leader:  # under a user's own mpirun nobody else would, before the next sweep
        world.at_abort(functools.partial(remove, center.name))
    world.node.Barrier()  # nobody lets go of the center before everybody holds it
    if world.leader and world.size > 1 and (world.rank > 0 or MARK not in os.environ):
        remove(center.name)  # no launcher looks for it here, and nothing will be left of it, however the job ends
    center.meeting = meet(center, world, rule, settings)
    return center


def replica_of(model):
    if isinstance(model, np.ndarray):
        return Flat(model)
    from dkcore.replica import Replica

    return Replica(model)


class Flat:
    """An array in the place of a model's replica: a center for who trains without Keras."""

    def __init__(self, array: np.ndarray):
        self.array = np.ascontiguousarray(array).ravel()
        self.dtype, self.size, self.layout, self.digest = self.array.dtype, self.array.size, [("array", array.shape)], 0

    def read(self) -> np.ndarray:
        return self.array


def remove(name: str) -> None:
    """Take the name of a center out of shared memory: its memory goes with the last process that maps it."""
    Path(SHARED_MEMORY, name).unlink(missing_ok=True)


def refuse_differences(world: "World", replica, failure: Exception | None) -> None:
    """Raise on every rank when one rank has no replica, or another model than rank 0."""
    mine = None if replica is None else (replica.digest, np.dtype(replica.dtype).name, replica.layout)
    everyone = world.comm.allgather((mine, None if failure is None else str(failure)))
    if failure:
        raise failure
    for rank, (theirs, error) in enumerate(everyone):
        if error:
            raise DkcoreError(f"rank {rank} has no replica: {error}")
        if theirs != everyone[0][0]:
            raise LayoutError(expected("the same model on every rank", difference(rank, everyone[0][0], theirs), "Build it alike."))


def difference(rank: int, first: tuple, other: tuple) -> str:
    """In words, the first thing that differs between two (digest, dtype, layout)."""
    if first[1] != other[1]:
        return f"{first[1]} on rank 0 and {other[1]} on rank {rank}"
    if len(first[2]) != len(other[2]):
        return f"{len(first[2])} weights on rank 0 and {len(other[2])} on rank {rank}"
    for a, b in zip(first[2], other[2], strict=True):
        if a != b:
            return f"{a[0]} {a[1]} on rank 0 and {b[0]} {b[1]} on rank {rank}"
    return f"weights of other kinds on rank 0 and rank {rank}"
