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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dkcore.errors import MissingError, expected
from dkcore.peers import Peers

if TYPE_CHECKING:
    from dkcore.merge import Merge

__all__ = ["is_loss", "refuse_intolerant", "shrink"]


@dataclass(frozen=True)
class Report:
    """Where a leader stood when a node was lost. within: in a round of so many chunks; it has taken those before ``taken``."""

    rank: int
    number: int
    within: bool
    chunks: int
    taken: int
    phase: int


def is_loss(error: BaseException) -> bool:
    """Whether MPI says by it that a process is gone."""
    from mpi4py import MPI

    names = ("ERR_PROC_FAILED", "ERR_PROC_FAILED_PENDING", "ERR_REVOKED", "ERR_IN_STATUS")  # the last of several requests at once
    return isinstance(error, MPI.Exception) and error.Get_error_class() in [getattr(MPI, name, None) for name in names]


def refuse_intolerant(environ: Mapping[str, str]) -> None:
    """MissingError when this MPI would end the whole job with the first process that dies."""
    if environ.get("OMPI_MCA_mpi_ft_enable") not in ("1", "true"):
        advice = "Or take on_node_loss='stop'. dkcore's own launcher passes that option, with mpi='openmpi'."
        raise MissingError(expected("ranks started by Open MPI's mpirun --with-ft ulfm", "others", advice))


def shrink(merge: "Merge") -> list[str]:
    """Go on with the leaders that are left; the names of the nodes that are lost. MPI's Exception when one more is lost meanwhile."""
    before = merge.peers
    before.comm.Revoke()  # nobody waits for ever in what the lost one would have answered
    comm = before.comm.Shrink()
    mine = Report(before.rank, merge.number, merge.within, len(merge.round_chunks), merge.reduction.taken, merge.phase)
    reports = comm.allgather(mine)
    resume = catch_up(merge, comm, reports)
    merge.reduction.drop(merge.halves.put_back)
    left = [report.rank for report in reports]
    names = [before.names[rank] for rank in left]
    merge.begin_anew(Peers(comm, names, before.timeout), reports, resume)
    return [name for rank, name in enumerate(before.names) if rank not in left]


def catch_up(merge: "Merge", comm, reports: list[Report]) -> int:
    """Have those that are behind in a round take over what others have taken of it; how many chunks of it all have then."""
    behind = [report for report in reports if report.within]
    if not behind:
        return 0
    number, chunks = behind[0].number, behind[0].chunks
    through = [index for index, report in enumerate(reports) if report.number > number]
    ahead = through[0] if through else max(range(comm.size), key=lambda index: reports[index].within * (1 + reports[index].taken))
    end = chunks if through else reports[ahead].taken
    for index in range(min(report.taken for report in behind), end):
        arrays = merge.halves.agreement(merge.round_chunks[index])
        for array in arrays:
            comm.Bcast(array, root=ahead)
        if merge.within and merge.reduction.taken == index:
            merge.halves.take_over(merge.reduction.flying[0], arrays)
            merge.reduction.flying.pop(0)
            merge.reduction.taken += 1
    return end % chunks
