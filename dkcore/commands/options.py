"""From the words of the command line to a `Job`, without importing a framework."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dkcore import mnist
from dkcore.commands.model_file import locate_model
from dkcore.data import npz
from dkcore.errors import MissingError, expected, nearest
from dkcore.frameworks import BACKENDS
from dkcore.registry import KNOWN
from dkcore.settings.setting import settings_of
from dkcore.settings.settings import Settings
from dkcore.trainers import TRAINERS, Trainer
from dkcore.training.job import Job

__all__ = ["job_of", "trainer_of"]


def job_of(directory: str, *, model: str, data: str, trainer: str, workers: int | None, **options: Any) -> Job:
    """The job in ``directory`` that the options of ``dkcore train`` ask for, by the names of the settings."""
    preset, file = trainer_of(trainer), locate_model(model)
    settings = {each.name: each.option.read(options[each.name]) for each in settings_of(Settings) if each.option and each.name in options}
    if settings["optimizer"] and isinstance(preset.optimizer, Mapping):
        advice = "It is defined by its own; --learning-rate may be set."
        raise ValueError(expected(f"no --optimizer for {preset.__name__}", settings["optimizer"], advice))
    if isinstance(preset.optimizer, Mapping):
        settings["optimizer"] = dict(preset.optimizer)
    workers = preset.workers if workers is None else workers
    settings |= {
        "scalars": {**preset.scalars_for(workers), **settings["scalars"]},
        "window": preset.window if settings["window"] is None else settings["window"],
        "backend": settings["backend"] or default_backend(),
        "default_optimizer": preset.optimizer if isinstance(preset.optimizer, str) else "adam",
        "model": "model.keras" if file.endswith(".keras") else file,
        "paths": [str(Path.cwd())],
    }
    job = Job(trainer=preset.__name__, rule=preset.rule, workers=workers, **settings)
    job.save(directory, npz.open_npz(mnist.load() if data == "mnist" else Path(data), Path(directory)))
    if file.endswith(".keras"):
        shutil.copy(file, Path(directory) / "model.keras")
    return job


def trainer_of(name: str) -> type[Trainer]:
    """A trainer by its name in any case (`Trainer` for a rule of one's own), or one made for a rule's name."""
    for known, kind in {**TRAINERS, "Trainer": Trainer}.items():
        if known.lower() == str(name).lower():
            return kind
    if name in KNOWN:
        return type(name, (Trainer,), {"rule": name})
    advice = nearest(name, [*TRAINERS, *KNOWN], "`dkcore rules` shows the rules.")
    raise ValueError(expected(f"a trainer of {', '.join(TRAINERS)}, or a rule", repr(name), advice))


def default_backend() -> str:
    """KERAS_BACKEND, else the first framework that is installed."""
    for name in [os.environ.get("KERAS_BACKEND", ""), *BACKENDS]:
        if name in BACKENDS and importlib.util.find_spec(name):
            return name
    raise MissingError(expected("TensorFlow, JAX or torch", f"none in {sys.prefix}", 'Run: pip install "dkcore[tensorflow]".'))
