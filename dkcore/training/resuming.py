"""Going on from a checkpoint: where a rank begins, and what it takes over, on as many workers as before or on another number."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import keras

from dkcore.checkpoints.manifest import Manifest, Saved, find
from dkcore.checkpoints.part import rank_part
from dkcore.data.shard import NodeShard, Shard
from dkcore.errors import CheckpointError, expected
from dkcore.ranks.seated import Again, again_of
from dkcore.training import generators, worker_state
from dkcore.training.callback import Callback, Logs
from dkcore.training.exchange import Exchange
from dkcore.training.lease_state import Restart, epochs_done, restart_of

if TYPE_CHECKING:
    from dkcore.arrays import Array
    from dkcore.ranks.world import World
    from dkcore.training.job import Job

__all__ = ["Beginning", "Restore", "beginning_of", "first_of"]


@dataclass(frozen=True)
class Beginning:
    """Where a rank begins.

    Attributes:
        epoch, step: the first epoch, and the batches of it that are done. origin: the epoch from which steps are counted.
        saved: the checkpoint, if there is one. source: the rank whose optimizer this one takes. whole: whether it is the same rank, which
            takes over everything. steps: since the origin. pending: those of them since the last exchange. leases: of this node, where
            batches are leased and the checkpoint knows of them.
        again: what it takes over from a worker that died in its seat, which began at ``before``. told: of a checkpoint
            that another worker of the seat began from, and that may be gone by now: where it was, and the line for the report.
    """

    epoch: int
    step: int = 0
    origin: int = 0
    saved: Saved | None = None
    source: int = 0
    whole: bool = False
    steps: int = 0
    pending: int = 0
    leases: Restart | None = None
    again: Again | None = None
    before: "Beginning | None" = None
    told: tuple[str, str] | None = None

    @property
    def location(self) -> str | None:
        """Where the checkpoint is, or was; None for a job that begins anew."""
        if self.saved is not None:
            return self.saved.location
        return None if self.told is None else self.told[0]

    def line(self, size: int) -> str:
        """What was done, for the report; empty for a job that begins anew."""
        if self.saved is None:
            return "" if self.told is None else self.told[1]
        before, now = len(self.saved.manifest.ranks), size
        how = f"each of {now} workers has its optimizer back"
        if not self.whole:
            copies = ", and the others copies of them in turn" if now > before else ""
            how = f"{before} workers then, {now} now: the first {min(before, now)} have the optimizers{copies}"
        return f"resumed from {self.saved.location}, epoch {self.epoch}, step {self.step}; {how}"


def beginning_of(job: "Job", world: "World", shard: "Shard") -> Beginning:
    """Where this rank begins, as job, checkpoint and the workers before it in its seat say.

    CheckpointError when nothing is left to do, or it is another kind of job.
    """
    again = again_of(world)
    if again is None:
        return beginning_of_job(job, world, shard)
    begin = Beginning(**again.first) if again.first is not None else beginning_of_job(job, world, shard)
    return taken_over(begin, again, job.epochs, shard.steps(job.batch_size))


def first_of(begin: Beginning, size: int) -> dict[str, Any]:
    """Where the first worker of a seat began, for those that follow it: they look for no checkpoint. size: workers of the job."""
    first = begin.before or begin
    told = None if first.location is None else (first.location, first.line(size))
    return {name: getattr(first, name) for name in ("epoch", "step", "origin", "source", "steps")} | {"told": told}


def taken_over(begin: Beginning, again: Again, epochs: int, per_epoch: int) -> Beginning:
    """Where a worker begins that follows another one in its seat."""
    if again.guest:
        epoch = again.epoch or 0
        return Beginning(epoch, origin=begin.origin, steps=(epoch - begin.origin) * per_epoch, again=again)
    more: dict[str, Any] = {"again": again, "before": begin, "whole": False, "pending": 0}
    if again.over:
        return replace(begin, epoch=epochs, step=0, steps=again.steps, **more)
    if again.epoch is None:  # the other one had come to no exchange
        return replace(begin, **more)
    epoch, step = (again.epoch + 1, 0) if again.step >= per_epoch else (again.epoch, again.step)
    return replace(begin, epoch=epoch, step=step, steps=again.steps, **more)


def beginning_of_job(job: "Job", world: "World", shard: "Shard") -> Beginning:
    """Where this rank begins, as job and checkpoint say."""
    if job.resume is None:
        return Beginning(job.initial_epoch, origin=job.initial_epoch)
    saved = find(job.resume_location, verify=False)
    ranks = saved.manifest.ranks
    if not ranks:
        advice = "It was written by Center.save: pass it to Center.of(..., resume=...)."
        raise CheckpointError(expected("a checkpoint of a job", f"{saved.location}, which has a center alone", advice))
    if min(rank["epoch"] for rank in ranks) >= job.epochs and not any_left(saved.manifest, job.epochs):
        advice = "Raise --epochs, or num_epoch, to train further."
        raise CheckpointError(expected("a checkpoint with epochs left to do", f"{saved.location}, after all {job.epochs}", advice))
    origin = ranks[0]["origin"]
    if isinstance(shard, NodeShard):
        return leased_beginning(job, world, shard, saved, origin)
    mine = next((rank for rank in ranks if rank["rank"] == world.rank), None)
    if mine is not None and len(ranks) == world.size and not any(saved.manifest.leases):
        where = {name: mine[name] for name in ("epoch", "step", "steps", "pending")}
        return Beginning(origin=origin, saved=saved, source=world.rank, whole=True, **where)
    if job.apart:
        what, received = f"{len(ranks)} workers, as the checkpoint of this ensemble has", f"{world.size}"
        raise CheckpointError(expected(what, received, "Each member goes on from its own."))
    per_epoch = shard.steps(job.batch_size)
    epoch, step = where_all(saved.manifest, per_epoch)
    source = ranks[world.rank % len(ranks)]["rank"]
    return Beginning(epoch, step, origin, saved, source, steps=(epoch - origin) * per_epoch + step)


def any_left(manifest: Manifest, epochs: int) -> bool:
    """Whether leased batches of these epochs are unsettled."""
    states = [state for state in manifest.leases if state]
    return any(first < epochs * state["batches"] for state in states for first, _ in state["unsettled"])


def leased_beginning(job: "Job", world: "World", shard: NodeShard, saved: Saved, origin: int) -> Beginning:
    """The same where batches are leased: the node goes on with those that were unsettled."""
    manifest, node, batches = saved.manifest, shard.node, shard.steps(job.batch_size)
    before = {rank["rank"]: rank for rank in manifest.ranks}
    same = len(before) == world.size and world.nodes == manifest.nodes and world.rank in before
    orders = ("seed", "shuffle", "batch_size", *(() if shard.even else ("workers",)))
    rows = all(manifest.settings.get(name) == getattr(job, name) for name in orders)
    start = Restart(round(epochs_done(manifest) * batches))
    if any(manifest.leases):
        start = restart_of(manifest, node, world.nodes, batches, world.node_ranks if same else [], rows)
    epoch = min(start.following // batches, job.epochs - 1)
    if world.rank in start.held:
        mine = before[world.rank]
        return Beginning(epoch, 0, origin, saved, world.rank, True, mine["steps"], mine["pending"], start)
    source = manifest.ranks[world.rank % len(manifest.ranks)]["rank"]
    return Beginning(epoch, 0, origin, saved, source, steps=before.get(source, {}).get("steps", 0), leases=start)


def where_all(manifest: Manifest, per_epoch: int) -> tuple[int, int]:
    """Epoch and step for a worker with so many steps an epoch: as far as the former ones were on average."""
    mean = epochs_done(manifest)
    epoch = math.floor(mean)
    step = round((mean - epoch) * per_epoch)
    return (epoch + 1, 0) if step >= per_epoch > 0 else (epoch, step)


class Restore(Callback):
    """Gives a rank back what it had, when training begins: after the exchange has joined the center, before the first step.

    newest: finds its part of the newest checkpoint, for a worker that follows one that died.
    """

    def __init__(
        self,
        exchange: Exchange,
        beginning: Beginning,
        learning_rate: float | None,
        newest: "Callable[[], dict[str, Array] | None]" = lambda: None,
    ):
        super().__init__()
        self.exchange, self.beginning, self.learning_rate, self.newest = exchange, beginning, learning_rate, newest
        self.part: dict[str, Array] = {}

    def on_train_begin(self, logs: Logs = None) -> None:
        exchange, beginning = self.exchange, self.beginning
        if beginning.again is not None:
            self.take_over(beginning.again)
            return
        if beginning.saved is None:
            return
        self.part = beginning.saved.part(rank_part(beginning.source))
        restore = worker_state.restore if beginning.whole else worker_state.restore_optimizer
        if not restore(exchange, self.part):
            print("dkcore: the optimizer is another one than in the checkpoint, and begins anew.")
        elif self.learning_rate is not None:  # that of the command, which may have changed
            self._model.optimizer.learning_rate = self.learning_rate
        exchange.steps, exchange.pending = beginning.steps, beginning.pending
        exchange.steps_before = (exchange.replica.steps() or 0) - exchange.steps
        if not beginning.step:
            self.part = {}

    def take_over(self, again: Again) -> None:
        """Go on where another worker died. Its optimizer died with it: this one has that of the newest checkpoint, if there is one."""
        exchange, begin, optimizer = self.exchange, self.beginning, self._model.optimizer
        records = exchange.history.records
        exchange.exchanges, exchange.steps = again.exchanges, begin.steps
        exchange.durations = [record[6] or 0.0 for record in records]
        exchange.staleness_sum = sum(record[5] or 0.0 for record in records)
        part = None if again.guest else self.newest()
        if part is not None and worker_state.restore_optimizer(exchange, part):
            print("dkcore: the optimizer is that of the newest checkpoint.")
        exchange.worker.resume(again.exchanges + again.ahead, begin.epoch, begin.step, begin.steps, again.samples)
        if isinstance(getattr(optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule):
            optimizer.iterations.assign(begin.steps)
        exchange.steps_before = (exchange.replica.steps() or 0) - begin.steps

    def wake(self) -> None:
        """The batches that were done before are over: torch drew for them."""
        if self.beginning.whole and self.part:
            generators.restore(self.part)
        self.part = {}
