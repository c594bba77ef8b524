"""What a worker leaves that is not followed by another: its sums and its history, which its seat writes for it."""

import dataclasses
from typing import TYPE_CHECKING

from dkcore.report.history import History, notes_of
from dkcore.training.sums import counted, put_sums
from dkcore.training.taking_up import LOST

if TYPE_CHECKING:
    from dkcore.ranks.seated import Again
    from dkcore.ranks.world import World
    from dkcore.seats.account import Account
    from dkcore.seats.calls import Calls
    from dkcore.training.job import Job

__all__ = ["write_lost"]


def write_lost(job: "Job", world: "World", calls: "Calls", again: "Again", account: "Account", rank: int | None = None) -> int:
    """Write sums and history of a rank, and say that it trains no more; how many rows of its training are left.

    None are where batches are leased: the others train them.
    """
    rank = world.rank if rank is None else rank
    began = calls.beginning
    assert began is not None  # or the job would have ended
    history = History(notes_of(job.home, rank))
    samples, begin = began["samples"], began["begin"]
    sums = counted(job, history.records, samples, begin, again)
    rows: int = 0 if again.guest or job.leases else max((job.epochs - begin[0]) * samples - sums["samples"], 0)
    said = dataclasses.asdict(account) | {"rows_lost": account.rows_lost + rows}
    put_sums(job.home, rank, sums | {
        "exchanges": again.exchanges, "histogram": list(again.histogram), "evaluation_seconds": 0.0, "level": "",
        "weights": began["weights"], "cores": world.cores, "nodes": world.nodes, "merge": None, "account": said, "lost": True,
    })  # fmt: skip
    history.write(job.home / f"rank-{rank}.parquet", rank)
    (job.home / LOST.format(rank)).touch()
    return rows
