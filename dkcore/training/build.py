"""A rank's own model: built as the job says, with noise of its own."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import keras
import numpy as np

from dkcore.errors import ModelError, expected
from dkcore.training.compilation import load

if TYPE_CHECKING:
    from dkcore.training.job import Job

__all__ = ["build", "vary_seeds"]


def build(job: "Job") -> keras.Model:
    """The job's model, after its custom modules are imported."""
    sys.path += [path for path in job.paths if path not in sys.path]
    for module in job.modules:
        import_file(job.home / module) if module.endswith(".py") else importlib.import_module(module)
    if job.model.endswith(".keras"):
        return load(job, job.home / job.model)
    file, _, function = job.model.rpartition(":")
    maker = getattr(import_file(Path(file)), function, None)
    model = maker() if callable(maker) else maker
    if not isinstance(model, keras.Model):
        raise ModelError(expected(f"a function {function!r} in {file} that returns a Keras model", repr(model), "Return the model."))
    return model


def import_file(path: Path) -> ModuleType:
    """A module of a file, whatever its folder."""
    if not path.exists():
        raise ModelError(expected("a Python file", str(path), "Is the path right, seen from where the ranks run?"))
    sys.path.insert(0, str(path.resolve().parent))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise ModelError(expected("a Python file", str(path), "Its name must end with .py."))
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


def vary_seeds(model: keras.Model, rank: int) -> None:
    """Give each worker but the first its own noise: the generators of dropout and the like are saved with the model."""
    for variable in model.non_trainable_variables if rank else []:
        if variable.name == "seed_generator_state":
            variable.assign(variable + np.array([rank, 0], keras.backend.standardize_dtype(variable.dtype)))
