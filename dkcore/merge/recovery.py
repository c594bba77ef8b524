"""Training on after a node was lost: the leaders that are left shrink their communicator, and agree anew.

Design:
(a) Of a round under way, some survivors may have taken chunks that others have not. A chunk can only have been taken where
    every survivor had sent its part of it, and still holds what it sent. So who is behind takes over what the others agreed
    on, and leaves on top of it what it had not sent.
(b) What nobody has taken was never agreed on: it stays in c - s, and the next round finds it there.
(c) What encoding sums had left over at their owners is in no center: each owner puts it back into its own.
(d) No two leaders are more than one round apart, and only one round can be under way: nobody enters one before all have given
    notice of it.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dkcore.errors import MissingError, expected
from dkcore.merge.allreduce import Reduction
from dkcore.merge.leaders import Peers
from dkcore.merge.round import Round

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from dkcore.ranks.world import World

__all__ = ["Report", "Survivors", "is_loss", "shrink", "start_together", "validate_tolerance"]

NAP = 0.002  # seconds between two looks: a spinning wait would take the core from who still compiles


@dataclass(frozen=True)
class Report:
    """Where a leader stood when a node was lost. within: in a round of so many chunks; it has taken those before ``taken``."""

    rank: int
    number: int
    within: bool
    chunks: int
    taken: int
    phase: int


@dataclass(frozen=True)
class Survivors:
    """What is left after a loss. resume: how many chunks of the round under way all of them have. lost: names of nodes."""

    peers: Peers
    reports: list[Report]
    resume: int
    lost: list[str]


def is_loss(error: BaseException) -> bool:
    """Whether MPI says by it that a process is gone."""
    if (MPI := sys.modules.get("mpi4py.MPI")) is None:
        return False
    names = ("ERR_PROC_FAILED", "ERR_PROC_FAILED_PENDING", "ERR_REVOKED", "ERR_IN_STATUS")  # the last of several requests at once
    return isinstance(error, MPI.Exception) and error.Get_error_class() in [getattr(MPI, name, None) for name in names]


def start_together(world: "World") -> None:
    """Wait until all ranks have come here; where a node is lost, and the job goes on without it, for no one."""
    try:
        request = world.comm.Ibarrier()
        while not request.Test():
            time.sleep(NAP)
    except Exception as error:
        if not (world.tolerant and is_loss(error)):  # without a lost node the others go on; the merge tells of it
            raise


def validate_tolerance(environ: Mapping[str, str]) -> None:
    """MissingError when this MPI would end the whole job with the first process that dies."""
    if environ.get("OMPI_MCA_mpi_ft_enable") not in ("1", "true"):
        advice = "Or take on_node_loss='stop'. dkcore's own launcher passes that option, with mpi='openmpi'."
        raise MissingError(expected("ranks started by Open MPI's mpirun --with-ft ulfm", "others", advice))


def shrink(peers: Peers, round: Round, reduction: Reduction, phase: int) -> Survivors:
    """The leaders that are left, all with the same state of the round; MPI's Exception when one more is lost meanwhile."""
    peers.comm.Revoke()  # nobody waits for ever in what the lost one would have answered
    comm = peers.comm.Shrink()
    mine = Report(peers.rank, round.number, round.within, len(round.chunks), reduction.taken, phase)
    reports = comm.allgather(mine)
    resume = catch_up(comm, reports, round, reduction)
    reduction.drop(round.contributions.put_back)
    left = [report.rank for report in reports]
    names = [peers.names[rank] for rank in left]
    lost = [name for rank, name in enumerate(peers.names) if rank not in left]
    return Survivors(Peers(comm, names, peers.timeout), reports, resume, lost)


def catch_up(comm: "Comm", reports: list[Report], round: Round, reduction: Reduction) -> int:
    """Have those that are behind in a round adopt what others have applied of it; how many chunks of it all have then."""
    behind = [report for report in reports if report.within]
    if not behind:
        return 0
    number, chunks = behind[0].number, behind[0].chunks
    through = [index for index, report in enumerate(reports) if report.number > number]
    ahead = through[0] if through else max(range(comm.size), key=lambda index: reports[index].within * (1 + reports[index].taken))
    end = chunks if through else reports[ahead].taken
    for index in range(min(report.taken for report in behind), end):
        contributions = round.contributions.of(round.chunks[index])
        arrays = contributions.agreement(round.chunks[index])
        for array in arrays:
            comm.Bcast(array, root=ahead)
        if round.within and reduction.taken == index:
            contributions.adopt(reduction.flying[0], arrays)
            reduction.flying.pop(0)
            reduction.taken += 1
    return end % chunks
