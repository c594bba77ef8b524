"""Classes and functions of the user's own in a model or its settings: whether ranks can load them, and which modules they need for it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from dkcore.errors import ModelError, expected, first_line

if TYPE_CHECKING:
    from dkcore.training.job import Job

__all__ = ["check_loadable", "module_of", "modules_of"]

FUNCTIONS = ("activations", "constraints", "initializers", "losses", "metrics", "optimizers", "regularizers")


def check_loadable(job: "Job", plain: Any) -> list[str]:
    """The modules that ranks have to import before they load ``plain``, beyond those of the job; ModelError if that is not enough.

    plain: serialized Keras objects, in any structure. Ranks know what Keras has and what their modules register, and no
    function or class of the script itself.
    """
    found: dict[str, None] = {}
    for name, registered in custom_names(plain):
        if name == "__lambda__":
            if job.safe_mode:
                advice = "Write a function or layer in a module and register it, or pass safe_mode=False: ranks then run stored bytecode."
                raise ModelError(expected("a model without Python lambdas", "a Lambda layer or a lambda", advice))
            continue
        known = keras.saving.get_registered_object(registered) or keras.saving.get_registered_object(name)
        if known is None:
            advice = "Decorate it with @keras.saving.register_keras_serializable() in a module, which custom_modules names."
            raise ModelError(expected(f"{name!r} registered with Keras, as ranks know it", "one that is not", advice))
        module = known.__module__
        if module in listed(job) or module.partition(".")[0] in listed(job):
            continue
        if module == "__main__":
            main = getattr(sys.modules["__main__"], "__file__", None)
            if main and Path(main).stem in listed(job):
                continue
            advice = "Ranks do not run the script: move it into a file of its own and pass custom_modules=['that_file.py']."
            raise ModelError(expected(f"{name!r} in a module that ranks can import", "one of the script or notebook itself", advice))
        found[module] = None
    return [place(module) for module in found]


def listed(job: "Job") -> set[str]:
    """The names that the job's modules have where they are imported."""
    return {Path(module).stem if module.endswith(".py") else module for module in job.modules}


def place(module: str) -> str:
    """How to name a module to the ranks: a single file by its path, since they may not find it by its name."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    alone = "." not in module and file.endswith(".py") and Path(file).name != "__init__.py" and "site-packages" not in file
    return str(Path(file).resolve()) if alone else module


def custom_names(plain: Any) -> Iterator[tuple[str, str]]:
    """(name, registered name) of every class and function in serialized objects that is not Keras' own."""
    if isinstance(plain, list | tuple):
        for item in plain:
            yield from custom_names(item)
    if not isinstance(plain, dict):
        return
    kind, module = plain.get("class_name"), str(plain.get("module"))
    if kind == "__lambda__":
        yield kind, kind
    elif kind == "function":
        if not is_of_keras(plain["config"]):
            yield plain["config"], plain["config"]
    elif isinstance(kind, str) and "config" in plain and not module.startswith("keras"):
        registered = plain.get("registered_name")  # of a class of __main__ Keras does not note the module
        if registered or module != "None":
            yield kind, str(registered or kind)
    for value in plain.values():
        yield from custom_names(value)


def is_of_keras(function: str) -> bool:
    """Whether Keras itself has a function of that name: their configs have nothing else."""
    return any(hasattr(getattr(keras, module), function) for module in FUNCTIONS)


def modules_of(job: "Job", model: keras.Model) -> list[str]:
    """`check_loadable` of the model and of all settings of ``compile``."""
    try:
        plain = keras.saving.serialize_keras_object(model)
    except Exception as error:  # whatever a layer's get_config may raise
        raise ModelError(expected("a model that Keras can save", first_line(error), "Does each custom layer have get_config?")) from error
    plain.pop("compile_config", None)
    settings = [job.optimizer, job.loss, job.metrics, job.weighted_metrics]
    own = [each for name, each in (job.compiled or {}).items() if getattr(job, name) is None]
    return check_loadable(job, [plain, *settings, *own])


def module_of(_: str, module: Any) -> str:
    """A module's name, or the absolute path of its file as the caller sees it; ModelError when there is none."""
    if not isinstance(module, str | Path):
        raise TypeError(expected("custom_modules as names or files", repr(module), "Such as ['layers.py', 'package.layers']."))
    if not str(module).endswith(".py"):
        return str(module)
    if not Path(module).is_file():
        raise ModelError(expected("a Python file in custom_modules", repr(str(module)), f"There is none, seen from {Path.cwd().name}/."))
    return str(Path(module).resolve())
