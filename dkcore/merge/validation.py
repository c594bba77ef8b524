"""Whether the ranks of a job fit together, before they share a center: their settings, and what their MPI can do."""

import os
import sys
from typing import TYPE_CHECKING

from dkcore.errors import DkcoreError, MissingError, expected
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import Synchronous
from dkcore.merge.barriers import merges
from dkcore.merge.recovery import validate_tolerance
from dkcore.merge.settings import Merging
from dkcore.ranks.agreement import agree, attempt
from dkcore.version import VERSION

if TYPE_CHECKING:
    from dkcore.ranks.world import World

__all__ = ["validate_job"]


def validate_job(world: "World", rule: "Rule | Synchronous | None", settings: Merging) -> None:
    """Raise on every rank, before anything is made, when ranks want different things or their MPI cannot do it."""
    validate_same_settings(world, rule, settings)
    if not world.over_mpi:
        return
    if settings.on_node_loss == "shrink" and world.size > 1:
        agree(world, attempt(lambda: validate_tolerance(os.environ))[1])
    if merges(world, rule if isinstance(rule, Synchronous) else None):
        validate_thread_level(world)


def validate_same_settings(world: "World", rule: "Rule | Synchronous | None", settings: Merging) -> None:
    """DkcoreError on every rank when one has other settings, another rule or another dkcore."""
    mine = {"dkcore": VERSION, "byte order": sys.byteorder, "rule": rule and rule.to_dict(), **settings.to_dict()}
    for rank, theirs in enumerate(everyone := world.comm.allgather(mine)):
        for name, first in everyone[0].items():
            if theirs.get(name) != first:
                named = [value.get("name") if isinstance(value, dict) else value for value in (first, theirs.get(name))]
                what, received = f"the same {name} on every rank", f"{named[0]} on rank 0 and {named[1]} on rank {rank}"
                raise DkcoreError(expected(what, received, "Install and call it alike on all nodes."))


def validate_thread_level(world: "World") -> None:
    from mpi4py import MPI

    levels = {MPI.THREAD_SINGLE: "SINGLE", MPI.THREAD_FUNNELED: "FUNNELED", MPI.THREAD_SERIALIZED: "SERIALIZED"}
    weakest = world.comm.allreduce(MPI.Query_thread(), op=MPI.MIN)
    if weakest < MPI.THREAD_MULTIPLE:
        advice = "The merge runs beside the training. Take an MPI that has it, and leave mpi4py.rc.thread_level alone."
        raise MissingError(expected("an MPI with MPI_THREAD_MULTIPLE", f"MPI_THREAD_{levels[weakest]}", advice))
