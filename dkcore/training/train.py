"""What one rank does with a job: build the model, join the center, fit its shard, leave its sums and its history."""

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras

from dkcore.center import Center
from dkcore.data import batches
from dkcore.data.leased import Order, leased_dataset
from dkcore.data.shard import NodeShard, Shard
from dkcore.data.sharding import node_shard, shards
from dkcore.frameworks import hide_tensorflow
from dkcore.ranks.agreement import attempt, raise_once
from dkcore.ranks.seated import SeatedWorld, again_of, begin_together, begun_at
from dkcore.report.history import CENTER, History, notes_of
from dkcore.settings.settings import SEEDS
from dkcore.training import ensemble, keras_state
from dkcore.training.atomic_files import save_whole, write_whole
from dkcore.training.build import build, vary_seeds
from dkcore.training.checkpoint import Checkpoint, StoppedError
from dkcore.training.common_start import Gate
from dkcore.training.compilation import compile_model, restore_user_steps
from dkcore.training.evaluation import Evaluation
from dkcore.training.exchange import Exchange
from dkcore.training.finite import check_finite
from dkcore.training.input_shapes import check_declared
from dkcore.training.lease_state import begin_leases
from dkcore.training.leasing import MORE_EPOCHS, Leases
from dkcore.training.leaving import Leave, asked_of
from dkcore.training.position import Position
from dkcore.training.recording import finish_recording, recorder_of, stop_signals
from dkcore.training.resuming import Beginning, Restore, beginning_of, first_of
from dkcore.training.sums import put_sums, write_sums
from dkcore.training.taking_up import newest_part

if TYPE_CHECKING:
    from dkcore.ranks.world import World
    from dkcore.training.job import Job

__all__ = ["train"]

TEST_BATCH = 1000


def train(job: "Job", world: "World") -> None:
    """Train as one rank; rank 0 also evaluates the center and saves the trained model.

    A signal may have ended the training after a checkpoint: then there is nothing to deliver.
    """
    part = prepare(job, world)
    fit(part)
    if not finish_recording(part.checkpoint, job, world, part.begin):
        deliver(part)
    part.center.close()


@dataclass
class Part:
    """One rank's part of a job, when all ranks have joined the center.

    shard, test: its rows, and those that rank 0 evaluates the center on. chosen: what it is compiled with, as `compile_model` returns it.
    begin: where this rank begins.
    """

    job: "Job"
    world: "World"
    shard: Shard
    test: Shard | None
    model: keras.Model
    chosen: dict[str, Any]
    begin: Beginning
    center: Center
    exchange: Exchange
    evaluation: Evaluation | None = None
    checkpoint: Checkpoint | None = None


def prepare(job: "Job", world: "World") -> Part:
    """Build and compile the model, and join the center."""
    prepare_keras(job, world)
    shard, test = rows_of(job, world)
    model = build(job)
    if job.apart:
        ensemble.check(model)
    raise_once(world, attempt(lambda: check_declared(model, shard.arrays[0]))[1])
    chosen = compile_model(job, model, shard)
    vary_seeds(model, world.rank)
    begin, failure = attempt(lambda: beginning_of(job, world, shard))
    raise_once(world, failure)
    assert begin is not None  # or that has ended the job
    settings = {name: getattr(job, name) for name in ("merge_every", "merge_compression", "merge_timeout", "on_node_loss", "undo")}
    center = Center.of(model, world, rule=job.the_rule, note=job.trainer, resume=begin.saved, **settings)
    exchange = Exchange(
        center, job.the_rule, job.window, check_finite=job.check_finite, rank=world.rank, samples_per_epoch=shard.samples,
        batch_size=job.batch_size, epochs=job.epochs, max_staleness=job.max_staleness, **job.scalars,
    )  # fmt: skip
    if isinstance(world, SeatedWorld):
        exchange.history = History(notes_of(job.home, world.rank))
    if isinstance(shard, NodeShard) and shard.samples and begin.again is not None and begin.again.over:
        world.node.Barrier()  # a call that each worker of a seat makes
    elif isinstance(shard, NodeShard) and shard.samples:
        exchange.leases = Leases(center, shard, job.batch_size, job.window, job.epochs, waits=exchange.synchronous is None)
        exchange.leases.join(world.rank)
        if isinstance(world, SeatedWorld):
            exchange.leases.leaving = asked_of(world)
        begin_leases(exchange.leases, begin, world)
    part = Part(job, world, shard, test, model, chosen, begin, center, exchange)
    if isinstance(world, SeatedWorld) and world.guest:  # checkpoints are of ranks
        return part
    part.checkpoint = recorder_of(job, world, exchange, begin, shard.steps(job.batch_size))
    if test is not None:
        part.evaluation = Evaluation(exchange, batches.dataset(test, job.backend, TEST_BATCH, shuffle=False, scale=job.scale))
    return part


def rows_of(job: "Job", world: "World") -> tuple[Shard, Shard | None]:
    """What this worker trains on, and evaluates on."""
    again = again_of(world)
    if again is not None and again.guest:
        shard = Shard(job.home / "data", world.rank % world.size, world.size)
        return (shard if again.node_rows is None else NodeShard(shard, **again.node_rows)), None
    shard, test = shards(job.home / "data", world)
    return (node_shard(shard, world) if job.leases else shard), test


def prepare_keras(job: "Job", world: "World") -> None:
    """Have this process' Keras be in the state that the driver's was in."""
    hide_tensorflow(job.backend)
    keras_state.apply(job.keras)
    if not job.safe_mode:
        keras.config.enable_unsafe_deserialization()
    keras.utils.set_random_seed((job.seed + world.rank) % SEEDS)


def fit(part: Part) -> None:
    """Train on this rank's rows, and wait for the center to be final."""
    job, world, exchange, begin = part.job, part.world, part.exchange, part.begin
    restore = Restore(exchange, begin, job.learning_rate, lambda: newest_part(job, world.rank))
    position = Position(exchange, begin.epoch, begin.step, restore.wake)
    guest = isinstance(world, SeatedWorld) and world.guest
    seed = (job.seed + world.rank) % SEEDS if guest and exchange.leases is None else job.seed  # a draw of its own
    shuffled: dict[str, Any] = {"shuffle": job.shuffle, "seed": seed}
    if exchange.leases is None:
        dataset = batches.dataset(part.shard, job.backend, job.batch_size, scale=job.scale, epoch=position, **shuffled)
    else:
        order = Order(part.shard, job.batch_size, **shuffled)
        dataset = leased_dataset(order, exchange.leases, job.backend, scale=job.scale, class_weight=job.class_weight)
    callbacks = [*([position] if exchange.leases is None else []), *callbacks_of(part, restore)]
    begin_together(world, beginning_for(part))
    if world.rank == 0:
        write_whole(part.center.name, job.home / "center")  # the launcher may be looking for it
    exchange.started = begun_at(world)
    with stop_signals(part.checkpoint, world):
        with contextlib.suppress(StoppedError):
            train_rows(part, dataset, callbacks)
        exchange.history.write(job.home / f"rank-{world.rank}.parquet", world.rank)
        part.center.finish(keep=False)  # nobody trains on


def beginning_for(part: Part) -> dict[str, Any]:
    """What the seat of this rank is told, if it has one: what it needs to write the sums of a worker that is lost."""
    begin = part.begin
    said = {"samples": part.shard.samples, "begin": (begin.epoch, begin.steps, begin.origin), "weights": part.center.size}
    rows = part.shard.arguments if isinstance(part.shard, NodeShard) else None
    return said | {"node_rows": rows, "first": first_of(begin, part.world.size)}


def train_rows(part: Part, dataset: Any, callbacks: list[keras.callbacks.Callback]) -> None:
    """`fit`, unless there is nothing to do for this rank."""
    if part.exchange.leases is not None:
        return train_leased(part, part.exchange.leases, dataset, callbacks)
    if part.shard.samples and part.begin.epoch < part.job.epochs:
        options = {"verbose": 0, "shuffle": False, "class_weight": part.job.class_weight}
        part.model.fit(dataset, initial_epoch=part.begin.epoch, epochs=part.job.epochs, callbacks=callbacks, **options)
    else:
        join_without_data(part.model, callbacks)


def train_leased(part: Part, leases: Leases, dataset: Any, callbacks: list[keras.callbacks.Callback]) -> None:
    """The same, of batches that are leased."""
    leases.execution = part.model.steps_per_execution
    gate = next(each for each in callbacks if isinstance(each, Gate))
    if (first := leases.first()) is None:
        gate.pass_through()  # who has leased all waits there for this one
        first = leases.first() if leases.wait() else None
    if first is None:
        return join_without_data(part.model, callbacks)
    part.model.fit(dataset, initial_epoch=first, epochs=part.job.epochs + MORE_EPOCHS, callbacks=callbacks, verbose=0, shuffle=False)


def callbacks_of(part: Part, restore: Restore) -> list[keras.callbacks.Callback]:
    """The exchange, and what is done after it: rank 0's evaluations, what a checkpoint has of this rank, and the next checkpoint."""
    job = part.job
    callbacks: list[keras.callbacks.Callback] = [Gate(part.world, part.exchange), part.exchange]
    if part.exchange.leases is not None:
        callbacks.append(part.exchange.leases)
    if part.evaluation is not None and not job.apart:  # there the center is now this member, now that one
        callbacks.append(part.evaluation)
    callbacks.append(restore)
    if isinstance(part.world, SeatedWorld):
        callbacks.append(Leave(part.exchange, part.world))
    return callbacks if part.checkpoint is None else [*callbacks, part.checkpoint]


def join_without_data(model: keras.Model, callbacks: list[keras.callbacks.Callback]) -> None:
    """What `fit` without a sample would be: this rank joins the center and leaves it, that the others can train and finish."""
    together = keras.callbacks.CallbackList(callbacks, model=model)
    together.on_train_begin()
    together.on_train_end()


def deliver(part: Part) -> None:
    """Leave this rank's sums; rank 0 leaves the trained model, evaluated, when those of all ranks are there."""
    job, world, model = part.job, part.world, part.model
    sums = write_sums(job, world, part.exchange, part.evaluation, part.shard.samples, part.begin)
    part.center.barrier("sums are written")
    if sums["leases"] is not None:  # now that all are through, what is left of the node is left for good
        put_sums(job.home, world.rank, sums | {"leases": part.center.leases})
    if job.apart:
        restore_user_steps(model, part.chosen)
        model = ensemble.gather(model, lambda: build(job), world, part.shard.samples > 0)
    elif world.rank == 0:
        part.center.copy_to(model)
    if world.rank != 0:
        return
    if part.evaluation is not None:
        part.evaluation.evaluate(model)
        part.evaluation.history.write(job.home / "center.parquet", CENTER)
        (job.home / "evaluation.json").write_text(json.dumps(part.evaluation.last))
    if job.check_finite:
        check_finite(model, part.shard if part.shard.samples else part.test, job)
    if not job.apart:
        restore_user_steps(model, part.chosen)
    save_whole(model.save, job.home / "trained.keras")
