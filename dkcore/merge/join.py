"""How the ranks of a world come to share one center: compare models, create it once a node, attach, and look again."""

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from dkcore.arrays import Array
from dkcore.errors import DkcoreError, LayoutError, expected
from dkcore.merge.barriers import take_part
from dkcore.merge.cut import Start, start_of
from dkcore.merge.seated import sit_down
from dkcore.merge.settings import Merging
from dkcore.merge.validation import validate_job
from dkcore.ranks.agreement import agree, attempt
from dkcore.ranks.processes import MARK
from dkcore.ranks.seated import SeatedWorld
from dkcore.ranks.shm import SHARED_MEMORY
from dkcore.ranks.transfer import broadcast
from dkcore.registry import rule_of

if TYPE_CHECKING:
    import keras

    from dkcore.center import Center
    from dkcore.checkpoints.manifest import Saved
    from dkcore.formula.rule import Rule
    from dkcore.formula.synchronous import Synchronous
    from dkcore.ranks.world import World

__all__ = ["join"]

CenterT = TypeVar("CenterT", bound="Center")
Layout: TypeAlias = list[tuple[str, tuple[int, ...]]]  # path and shape of each variable
Model: TypeAlias = tuple[int, str, Layout]  # its digest, dtype and layout


class Weights(Protocol):
    """What a center is made for: a `dkcore.replica.replica.Replica`, or an array in its place."""

    size: int
    layout: Layout
    digest: int
    statistics: int

    @property
    def dtype(self) -> npt.DTypeLike: ...
    def read(self) -> Array: ...


def join(
    kind: type[CenterT],
    model: "keras.Model | Array",
    world: "World",
    *,
    rule: "str | Rule | Synchronous | None",
    settings: Merging,
    timeout: float,
    note: str,
    undo: str | None,
    saved: "Saved | None" = None,
) -> CenterT:
    """The center of this node with rank 0's weights, or of a checkpoint; see `Center.of`. Every rank returns one, or every rank raises."""
    if isinstance(world, SeatedWorld) and world.guest and world.center is not None:
        return admit(kind, model, world, rule, timeout)
    world.call_roll("Center.of")
    found, failure = attempt(lambda: (None if rule is None else rule_of(rule), replica_of(model)))
    known, replica = found or (None, None)
    validate_same_model(world, replica, failure)
    assert replica is not None  # or that would have raised
    seated = world if isinstance(world, SeatedWorld) else None
    if seated is None:
        validate_job(world, known, settings)
    else:
        seated.line.call("validate", known and known.to_dict(), settings)
    held = None if seated is None else seated.center  # of a worker before this one
    start, failure = attempt(lambda: start_for(replica, world, known, saved) if world.leader and held is None else None)
    agree(world, failure)
    if world.leaders is not None and start is not None and saved is None:
        broadcast(world.leaders, start.vectors[0])
    center: CenterT | None = None
    try:
        center, failure = attempt(lambda: None if start is None else create(kind, start, replica, world, known, note, undo))
        if center is not None:  # under a user's own mpirun nobody else would, before the next sweep
            world.at_abort(functools.partial(remove, center.name))
        agree(world, failure)
        name = world.node.bcast(center.name if center else None, root=0)
        if center is None:
            center, failure = attempt(lambda: attach(kind, held or name, replica, timeout))
        agree(world, failure)  # and nobody lets go of the center before everybody holds it
        assert center is not None  # or that would have raised
        if world.leader and world.size > 1 and seated is None and (world.rank > 0 or MARK not in os.environ):
            remove(center.name)  # no launcher looks for it here, and nothing will be left of it, however the job ends
        center.membership = take_part(center, world, known, settings, start) if seated is None else sit_down(center, seated, known)
    except BaseException:
        if center is not None:
            center.close()
        raise
    center.rule = known  # only now: ranks whose rules differ learn that together
    return center


def admit(kind: type[CenterT], model: "keras.Model | Array", world: SeatedWorld, rule: "str | Rule | Synchronous | None",
          timeout: float) -> CenterT:  # fmt: skip
    """The center of a job that runs, for a worker that joins it."""
    assert world.center is not None
    center = attach(kind, world.center, replica_of(model), timeout)
    center.rule = None if rule is None else rule_of(rule)
    center.membership = sit_down(center, world, center.rule)
    return center


def create(
    kind: type[CenterT],
    start: Start,
    replica: Weights,
    world: "World",
    rule: "Rule | Synchronous | None",
    note: str,
    undo: str | None,
) -> CenterT:
    """The center of this node, on its leader."""
    values, *saved = start.vectors
    slots = max(64, 2 * world.node_size)
    center = kind.create(values, slots=slots, note=note, rule=rule, digest=replica.digest, statistics=replica.statistics, undo=undo)
    for state, values in enumerate(saved, 1):
        center.restore(values, state=state)
    return center


def attach(kind: type[CenterT], name: str, replica: Weights, timeout: float) -> CenterT:
    """The center that the leader of this node made."""
    size, dtype, digest, statistics = replica.size, replica.dtype, replica.digest, replica.statistics
    return kind.attach(name, timeout=timeout, size=size, dtype=dtype, digest=digest, statistics=statistics)


def start_for(replica: Weights, world: "World", rule: "Rule | Synchronous | None", saved: "Saved | None") -> Start:
    """What the leader of a node makes the center of: rank 0's values, or memory for them; or a checkpoint."""
    if saved is not None and world.leaders is not None:
        return start_of(saved, world.leaders.rank, world.nodes, rule, replica.digest)
    return Start([replica.read() if world.rank == 0 else np.empty(replica.size, replica.dtype)])


def replica_of(model: "keras.Model | Array") -> Weights:
    if isinstance(model, np.ndarray):
        return Flat(model)
    from dkcore.replica.replica import Replica

    return Replica(model)


class Flat:
    """An array in the place of a model's replica: a center for who trains without Keras."""

    statistics = 0

    def __init__(self, array: Array):
        self.array = np.ascontiguousarray(array).ravel()
        self.dtype, self.size, self.layout, self.digest = self.array.dtype, self.array.size, [("array", array.shape)], 0

    def read(self) -> Array:
        return self.array


def remove(name: str) -> None:
    """Take the name of a center out of shared memory: its memory goes with the last process that maps it."""
    Path(SHARED_MEMORY, name).unlink(missing_ok=True)


def validate_same_model(world: "World", replica: Weights | None, failure: Exception | None) -> None:
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


def difference(rank: int, first: Model, other: Model) -> str:
    """In words, the first thing that differs between two (digest, dtype, layout)."""
    if first[1] != other[1]:
        return f"{first[1]} on rank 0 and {other[1]} on rank {rank}"
    if len(first[2]) != len(other[2]):
        return f"{len(first[2])} weights on rank 0 and {len(other[2])} on rank {rank}"
    for a, b in zip(first[2], other[2], strict=True):
        if a != b:
            return f"{a[0]} {a[1]} on rank 0 and {b[0]} {b[1]} on rank {rank}"
    return f"weights of other kinds on rank 0 and rank {rank}"
