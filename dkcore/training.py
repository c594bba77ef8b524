"""What one rank does with a job: build the model, join the center, fit its shard, leave its sums and its history."""

import importlib
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from dkcore import ensemble
from dkcore.center import Center
from dkcore.checkpoint import Checkpoint, resume
from dkcore.data import Shard, first_leaf
from dkcore.errors import ModelError, expected
from dkcore.evaluation import Evaluation
from dkcore.exchange import Exchange
from dkcore.history import CENTER
from dkcore.pool import shards
from dkcore.startup import spare_tensorflow

if TYPE_CHECKING:
    from dkcore.job import Job
    from dkcore.nodes import World

__all__ = ["train"]

TEST_BATCH = 1000
EPOCHS = 1_000_003  # more than a job has


def train(job: "Job", world: "World") -> None:
    """Train as one rank; rank 0 also evaluates the center and saves the trained model."""
    spare_tensorflow(job.backend)
    keras.utils.set_random_seed(job.seed + world.rank)
    shard, test = shards(job.directory / "data", world)
    model = build(job)
    apart = job.the_rule.name == "independent"
    if apart:
        ensemble.check(model)
    compile_model(job, model, shard)
    first = resume(job.directory, model)
    settings = {name: getattr(job, name) for name in ("merge_every", "merge_compression", "merge_timeout", "on_node_loss")}
    center = Center.of(model, world, rule=job.the_rule, note=job.trainer, **settings)
    exchange = Exchange(
        center, job.the_rule, job.window, check_finite=job.check_finite, rank=world.rank, samples_per_epoch=shard.samples,
        batch_size=job.batch_size, epochs=job.epochs, max_staleness=job.max_staleness, **job.scalars,
    )  # fmt: skip
    callbacks: list[keras.callbacks.Callback] = [exchange]
    evaluation = None
    if test is not None:
        evaluation = Evaluation(exchange, test.dataset(job.backend, TEST_BATCH, shuffle=False, scale=job.scale))
        if not apart:  # the center is now this member, now that one
            callbacks.append(evaluation)
    if job.checkpoint and world.rank == 0 and not apart:  # likewise; an ensemble begins anew
        callbacks.append(Checkpoint(exchange, job.directory))
    seed = job.seed + EPOCHS * first  # a dataset counts its epochs from 0: not those orders again
    dataset = shard.dataset(job.backend, job.batch_size, shuffle=job.shuffle, seed=seed, scale=job.scale)
    world.comm.Barrier()  # so that no worker has the center to itself while others still start
    if world.rank == 0:
        note = job.directory / "center.draft"
        note.write_text(center.name)
        note.replace(job.directory / "center")  # whole at once: the launcher may be looking for it
    exchange.started = time.time()
    if shard.samples:
        model.fit(dataset, initial_epoch=first, epochs=job.epochs, verbose=0, callbacks=callbacks, shuffle=False)
    else:
        attend(model, callbacks)
    exchange.history.write(job.directory / f"rank-{world.rank}.parquet", world.rank)
    center.finish()
    write_sums(job, world, exchange, evaluation, shard.samples * (job.epochs - first))
    center.finish()  # once more: who collects finds what all have written
    if apart:
        model = ensemble.gather(model, lambda: build(job), world, shard.samples > 0)
    elif world.rank == 0:
        center.copy_to(model)
    if world.rank == 0:
        if evaluation is not None:
            evaluation.evaluate(model)
            evaluation.history.write(job.directory / "center.parquet", CENTER)
            (job.directory / "evaluation.json").write_text(json.dumps(evaluation.last))
        model.save(job.directory / "trained.keras")
    center.close()


def attend(model: keras.Model, callbacks: list[keras.callbacks.Callback]) -> None:
    """What `fit` without a sample would be: this rank joins the center and leaves it, that the others can train and finish."""
    together = keras.callbacks.CallbackList(callbacks, model=model)
    together.on_train_begin()
    together.on_train_end()


def build(job: "Job") -> keras.Model:
    """The job's model, after its custom modules are imported."""
    sys.path += [path for path in job.paths if path not in sys.path]
    for module in job.modules:
        import_file(job.directory / module) if module.endswith(".py") else importlib.import_module(module)
    if job.model.endswith(".keras"):
        return keras.saving.load_model(job.directory / job.model, compile=job.optimizer is None and job.loss is None)
    file, _, function = job.model.rpartition(":")
    maker = getattr(import_file(Path(file)), function, None)
    model = maker() if callable(maker) else maker
    if not isinstance(model, keras.Model):
        raise ModelError(expected(f"a function {function!r} in {file} that returns a Keras model", repr(model), "Return the model."))
    return model


def import_file(path: Path):
    """A module of a file, whatever its folder."""
    if not path.exists():
        raise ModelError(expected("a Python file", str(path), "Is the path right, seen from where the ranks run?"))
    sys.path.insert(0, str(path.resolve().parent))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


def compile_model(job: "Job", model: keras.Model, shard: Shard) -> None:
    """Compile with the job's settings, and with the executions that make `fit` fast."""
    # One execution a window removes fit's shell from the steps between two exchanges. torch refuses more than one step.
    chosen = max(min(job.window, shard.steps(job.batch_size)), 1) if job.backend == "tensorflow" else 1
    executions = job.steps_per_execution or chosen
    if model.compiled and job.optimizer is None and job.loss is None:
        model.steps_per_execution = executions
        optimizer = model.optimizer
    else:
        optimizer = keras.optimizers.get(job.optimizer or "adam")
        loss = revive(job.loss or default_loss(shard))
        model.compile(optimizer, loss, metrics=revive(job.metrics), loss_weights=job.loss_weights, steps_per_execution=executions)
    if job.learning_rate is not None:
        optimizer.learning_rate = job.learning_rate


def revive(value: Any) -> Any:
    """What `dkcore.trainers.serialize` made plain, as Keras objects again: in lists and in dicts of outputs too."""
    if isinstance(value, dict) and "class_name" not in value:
        return {name: revive(item) for name, item in value.items()}
    if isinstance(value, list):
        return [revive(item) for item in value]
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value


def default_loss(shard: Shard) -> str:
    """Integer labels are classes; of anything else only the user knows what it is."""
    kind = first_leaf(shard.arrays[1]).dtype if len(shard.arrays) > 1 else None
    if kind is None or kind.kind not in "iu" or isinstance(shard.arrays[1], dict | list):
        raise ModelError(expected("a loss", f"none, with labels of {kind}", "Pass loss='mse', 'categorical_crossentropy', ..."))
    return "sparse_categorical_crossentropy"


def write_sums(job: "Job", world: "World", exchange: Exchange, evaluation: Evaluation | None, samples: int) -> None:
    """rank-N.json: what this rank did, for the report. One without samples has no first and no last exchange."""
    records = exchange.history.records or [(0, 0, None)]
    steps, times = zip(*((step, time) for _, step, time, *_ in records), strict=True)
    sums = {
        "rank": world.rank,
        "samples": samples,
        "samples_timed": samples - min(steps[0] * job.batch_size, samples),
        "steps": exchange.steps,
        "exchanges": exchange.exchanges,
        "exchange_seconds": sum(exchange.durations[1:]),  # the clock starts when the first one ends
        "staleness_sum": exchange.staleness_sum,
        "histogram": exchange.histogram.tolist(),
        "first": times[0],
        "last": times[-1],
        "evaluation_seconds": sum(evaluation.durations[:-1]) if evaluation else 0.0,  # the last is after the last exchange
        "level": exchange.replica.level,
        "weights": exchange.replica.size,
        "cores": world.cores,
        "nodes": world.nodes,
        "merge": merge.sums() if (merge := exchange.center.meeting.merge) and world.nodes > 1 else None,
    }
    (job.directory / f"rank-{world.rank}.json").write_text(json.dumps(sums))
