"""From the words of the command line to a `Job`, without importing a framework."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from dkcore import mnist, npz
from dkcore.errors import MissingError, ModelError, expected
from dkcore.job import Job
from dkcore.rules import REGISTRY
from dkcore.synchronous import METHODS
from dkcore.trainers import TRAINERS, Trainer

__all__ = ["job_of"]

SETTINGS = ("epochs", "batch_size", "learning_rate", "scale", "seed", "shuffle", "check_finite", "max_staleness", "merge_every",
            "merge_compression", "merge_timeout", "on_node_loss")  # fmt: skip
BACKENDS = ("tensorflow", "jax", "torch")


def job_of(directory: str, *, model: str, data: str, trainer: str, window: int | None, optimizer: str | None, loss: str | None,
           metrics: tuple[str, ...], scalars: tuple[str, ...], modules: tuple[str, ...], backend: str | None, workers: int | None,
           **options) -> Job:
    """The job in ``directory`` that the options of ``dkcore train`` ask for."""
    preset = trainer_of(trainer)
    file, modules = locate_model(model), [str(Path(name).resolve()) if name.endswith(".py") else name for name in modules]
    settings = {name: options[name] for name in SETTINGS}
    if optimizer and isinstance(preset.optimizer, Mapping):
        advice = "It is defined by its own; --learning-rate may be set."
        raise ValueError(expected(f"no --optimizer for {preset.__name__}", optimizer, advice))
    own = dict(preset.optimizer) if isinstance(preset.optimizer, Mapping) else preset.optimizer
    optimizer = optimizer or (None if preset.optimizer == Trainer.optimizer else own)
    workers = preset.workers if workers is None else workers
    job = Job(
        trainer=preset.__name__,
        rule=preset.rule,
        scalars={**preset.scalars_for(workers), **dict(map(scalar_of, scalars))},
        window=preset.window if window is None else window,
        workers=workers,
        backend=backend or default_backend(),
        model="model.keras" if file.endswith(".keras") else file,
        optimizer=optimizer,
        loss=loss,
        metrics=list(metrics),
        modules=modules,
        paths=[str(Path.cwd())],
        **settings,
    )
    job.save(directory, npz.open_npz(mnist.load() if data == "mnist" else Path(data), Path(directory)))
    if file.endswith(".keras"):
        shutil.copy(file, Path(directory) / "model.keras")
    return job


def trainer_of(name: str) -> type[Trainer]:
    """A trainer by its name in any case, or one made for a rule's name."""
    for known, kind in TRAINERS.items():
        if known.lower() == name.lower():
            return kind
    if name in REGISTRY or name in METHODS:
        return type(name, (Trainer,), {"rule": name})
    raise ValueError(expected(f"a trainer of {', '.join(TRAINERS)}, or a rule", repr(name), "`dkcore rules` shows the rules."))


def locate_model(model: str) -> str:
    """The absolute path of FILE.keras, or of FILE.py with :FUNCTION."""
    file, separator, function = model.rpartition(":")
    if model.endswith(".keras"):
        file, separator, function = model, "", ""
    elif not file.endswith(".py") or not function:
        raise ModelError(expected("FILE.py:FUNCTION or FILE.keras", repr(model), "The function returns a Keras model."))
    if not Path(file).is_file():
        raise ModelError(expected("a file with the model", repr(file), f"There is none, seen from {Path.cwd().name}/."))
    return f"{Path(file).resolve()}{separator}{function}"


def scalar_of(text: str) -> tuple[str, float]:
    """NAME=VALUE."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(expected("--scalar NAME=VALUE", repr(text), "Such as --scalar alpha=0.1.")) from None


def default_backend() -> str:
    """KERAS_BACKEND, else the first framework that is installed."""
    for name in [os.environ.get("KERAS_BACKEND", ""), *BACKENDS]:
        if name in BACKENDS and importlib.util.find_spec(name):
            return name
    raise MissingError(expected("TensorFlow, JAX or torch", f"none in {sys.prefix}", 'Run: pip install "dkcore[tensorflow]".'))
