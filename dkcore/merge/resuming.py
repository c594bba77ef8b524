"""What all ranks of a job do together with a checkpoint: find it, and write one of a center that is final."""

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from dkcore.checkpoints.folder import Folder, parent_of
from dkcore.checkpoints.manifest import Saved, assemble, find
from dkcore.checkpoints.part import node_part, report_failure, write_part
from dkcore.errors import expected, first_line
from dkcore.merge.cut import adds_of, copy_of
from dkcore.ranks.agreement import agree, attempt

if TYPE_CHECKING:
    from dkcore.engine.center import NodeCenter
    from dkcore.ranks.world import World

__all__ = ["about", "find_once", "no_room", "save", "write_or_tell"]


def find_once(world: "World", location: str) -> Saved:
    """The checkpoint of that path, checked by rank 0 alone; every rank calls it, and all raise when there is none."""
    found, failure = attempt(lambda: find(location) if world.rank == 0 else None)
    agree(world, failure)
    place = world.comm.bcast(found.location if found else None)
    mine, failure = attempt(lambda: find(place, verify=False))
    agree(world, failure)
    assert mine is not None  # or that would have raised
    return mine


def save(center: "NodeCenter", location: str, world: "World | None") -> None:
    """Write a final center as a checkpoint of that path; every rank of a world calls it, and all raise when rank 0 cannot."""
    _, failure = attempt(lambda: write(center, location) if world is None or world.rank == 0 else None)
    if world is not None:
        agree(world, failure)
    elif failure is not None:
        raise failure


def write(center: "NodeCenter", location: str) -> None:
    folder, name = parent_of(location)
    if folder.names(name):
        advice = "A checkpoint is never overwritten: take another name, or remove it."
        raise FileExistsError(expected("a new folder for the checkpoint", location, advice))
    folder.remove(folder.draft(name))
    try:
        write_part(folder, name, node_part(0), copy_of(center), about(center, 1, 0, 0))
        made = assemble(folder, name, {})
    except OSError as error:
        folder.remove(folder.draft(name))
        raise no_room(location, error) from error
    assert made, "it has one part"


def about(center: "NodeCenter", nodes: int, ranks: int, merge: int) -> dict[str, Any]:
    """What the manifest says of a center. merge: after which its node copied it."""
    rule = center.rule
    return {
        "digest": center.digest, "size": center.size, "dtype": str(center.dtype), "statistics": center.statistics,
        "rule": "" if rule is None else rule.name, "adds": adds_of(rule, center.states), "nodes": nodes, "ranks": ranks, "merge": merge,
    }  # fmt: skip


def write_or_tell(folder: Folder, name: str, part: str, arrays: dict[str, Any], said: dict[str, Any]) -> OSError | None:
    """Write a part of a checkpoint; when it does not fit, tell who waits for it, and return why."""
    try:
        write_part(folder, name, part, arrays, said)
    except OSError as error:
        failure = no_room(folder.location, error)
        try:
            report_failure(folder, name, part, error)
        except OSError as second:  # nor is there room for that: rank 0 waits in vain, and then gives it up
            print(f"dkcore: {failure} ({second})", file=sys.stderr)
        return failure
    return None


def no_room(location: str, error: OSError) -> OSError:
    """A checkpoint that could not be written: where, why, and how much room there is."""
    place = location
    while place and not os.path.isdir(place):
        place = os.path.dirname(place)
    free = f", where {shutil.disk_usage(place).free / 1e6:,.1f} MB are free" if place else ""
    advice = "Nothing is left of it. Make room, or lower keep; the checkpoint before it is whole."
    return OSError(error.errno, expected(f"room for a checkpoint in {location}{free}", first_line(error), advice))
