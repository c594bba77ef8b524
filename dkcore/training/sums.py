"""rank-N.json: what one rank did, for the report."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dkcore.training.atomic_files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from dkcore.ranks.seated import Again
    from dkcore.ranks.world import World
    from dkcore.report.history import Record
    from dkcore.training.evaluation import Evaluation
    from dkcore.training.exchange import Exchange
    from dkcore.training.job import Job
    from dkcore.training.resuming import Beginning

__all__ = ["counted", "put_sums", "write_sums"]


def counted(job: "Job", records: "Sequence[Record]", samples: int, begin: tuple[int, int, int],
            again: "Again | None" = None, samples_in: Callable[[int], int] | None = None) -> dict[str, Any]:  # fmt: skip
    """What a worker's records come to. One without samples has no first and no last exchange.

    samples: of an epoch of this worker. begin: the epoch where it began, its steps until then, and the epoch from which those are counted;
    its samples are those since then. again: what was taken over from a worker that died. samples_in: how many samples there are in so
    many steps since then, where this worker leased batches.
    """
    epoch_begun, steps_begun, origin = begin
    start = (epoch_begun, steps_begun, None)
    found: Sequence[tuple[Any, ...]] = records or [start]
    first, end = found[0], found[-1]
    if again is not None and again.steps > end[1]:  # killed before it took a note of its last exchange, which the center has
        end = (again.epoch, again.steps, end[2])
    if samples_in is None and again is not None and job.leases:
        samples_in = samples_leased(job, again, steps_begun)

    def seen(record: tuple[Any, ...]) -> int:
        """Samples that the worker had trained on at a record, in this run and before it."""
        epoch, step = int(record[0]) - origin, int(record[1])
        if samples_in is not None:
            return samples_in(step - steps_begun)
        per_epoch = -(-samples // job.batch_size)
        return epoch * samples + min((step - epoch * per_epoch) * job.batch_size, samples)

    return {
        "samples": seen(end) - seen(start),
        "samples_timed": seen(end) - seen(first),
        "steps": int(end[1]) - steps_begun,
        "exchange_seconds": sum(record[6] or 0.0 for record in records[1:]),  # the clock starts when the first one ends
        "staleness_sum": sum(record[5] or 0.0 for record in records),
        "first": first[2],
        "last": end[2],
    }


def write_sums(
    job: "Job", world: "World", exchange: "Exchange", evaluation: "Evaluation | None", samples: int, begin: "Beginning"
) -> dict[str, Any]:
    """Write the sums of this rank, and return them; begin: where it began, or the first worker of its seat. account: of its seat."""
    first = begin.before or begin
    membership, taken_over = exchange.center.membership, begin.again
    histogram = exchange.histogram.tolist() if taken_over is None else taken_over.added(exchange.histogram)
    samples_in: Callable[[int], int] | None = None if exchange.leases is None else exchange.leases.samples_in
    sums = counted(job, exchange.history.records, samples, (first.epoch, first.steps, first.origin), taken_over, samples_in) | {
        "exchanges": exchange.exchanges,
        "histogram": histogram,
        "evaluation_seconds": sum(evaluation.durations[:-1]) if evaluation else 0.0,  # the last is after the last exchange
        "level": exchange.replica.level,
        "weights": exchange.replica.size,
        "cores": world.cores,
        "nodes": world.nodes,
        "merge": None if membership is None else membership.sums,
        "account": {} if taken_over is None else taken_over.account,
        "lost": taken_over is not None and taken_over.over,
        "leases": exchange.center.leases if world.leader and job.leases else None,
    }
    put_sums(job.home, world.rank, sums)
    return sums


def samples_leased(job: "Job", again: "Again", steps_begun: int) -> Callable[[int], int]:
    """How many samples there were in so many steps of a seat whose worker is lost, where batches are leased; short ones among the last."""
    every = again.steps - steps_begun
    return lambda steps: again.samples if steps >= every > 0 else steps * job.batch_size


def put_sums(home: "Path", rank: int, sums: dict[str, Any]) -> None:
    """Write them, whole or not at all."""
    write_whole(json.dumps({"rank": rank, **sums}), home / f"rank-{rank}.json")
