"""rank-N.json: what one rank did, for the report."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dkcore.training.evaluation import Evaluation
from dkcore.training.exchange import Exchange

if TYPE_CHECKING:
    from dkcore.ranks.world import World
    from dkcore.training.job import Job
    from dkcore.training.resuming import Beginning

__all__ = ["write_sums"]


def write_sums(job: "Job", world: "World", exchange: Exchange, evaluation: Evaluation | None, samples: int, begin: "Beginning") -> None:
    """Write the sums of this rank. One without samples has no first and no last exchange.

    samples: of an epoch of this worker. begin: where it began; its samples are those since then.
    """
    start = (begin.epoch, begin.steps, None)
    records: Sequence[tuple[Any, ...]] = exchange.history.records or [start]
    first, end = records[0], records[-1]

    def seen(record: tuple[Any, ...]) -> int:
        """Samples that the worker had trained on at a record, in this run and before it."""
        epoch, step = int(record[0]) - begin.origin, int(record[1])
        if exchange.leases is not None:
            return exchange.leases.samples_in(step - begin.steps)
        per_epoch = -(-samples // job.batch_size)
        return epoch * samples + min((step - epoch * per_epoch) * job.batch_size, samples)

    membership = exchange.center.membership
    merge = membership.merge if membership is not None and world.nodes > 1 else None
    sums = {
        "rank": world.rank,
        "samples": seen(end) - seen(start),
        "samples_timed": seen(end) - seen(first),
        "steps": exchange.steps - begin.steps,
        "exchanges": exchange.exchanges,
        "exchange_seconds": sum(exchange.durations[1:]),  # the clock starts when the first one ends
        "staleness_sum": exchange.staleness_sum,
        "histogram": exchange.histogram.tolist(),
        "first": first[2],
        "last": end[2],
        "evaluation_seconds": sum(evaluation.durations[:-1]) if evaluation else 0.0,  # the last is after the last exchange
        "level": exchange.replica.level,
        "weights": exchange.replica.size,
        "cores": world.cores,
        "nodes": world.nodes,
        "merge": merge.rounds.sums() if merge else None,
        "leases": exchange.center.leases if world.leader and exchange.leases is not None else None,
    }
    (job.home / f"rank-{world.rank}.json").write_text(json.dumps(sums))
