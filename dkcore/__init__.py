"""dkcore: asynchronous distributed training of Keras models through one center variable in shared memory.

Importing it is light: no framework, no MPI and no compiler is loaded before something needs it.
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from dkcore.version import VERSION

__version__ = VERSION

HOMES = {
    "Center": "center",
    "Exchange": "training.exchange",
    "Job": "training.job",
    "Replica": "replica.replica",
    "Rule": "formula.rule",
    "init": "ranks.world",
    "rule": "formula.rule",
    "synchronous": "formula.synchronous",
    "ADAG": "trainers",
    "AEASGD": "trainers",
    "AGN": "trainers",
    "AveragingTrainer": "trainers",
    "DOWNPOUR": "trainers",
    "DiLoCo": "trainers",
    "DynSGD": "trainers",
    "EAMSGD": "trainers",
    "EASGD": "trainers",
    "EnsembleTrainer": "trainers",
    "Experimental": "trainers",
    "SingleTrainer": "trainers",
    "Trainer": "trainers",
}
MODULES = ("errors", "mnist", "rules", "schemes", "trainers", "utils")

__all__ = [*HOMES, *MODULES]


class Package(ModuleType):
    """A module that cloudpickle pickles by its name, as it does with plain modules: functions that mention dkcore travel."""

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = Package


def __getattr__(name: str) -> Any:
    if name in HOMES:
        value = getattr(importlib.import_module(f"dkcore.{HOMES[name]}"), name)
    elif name in MODULES:
        value = importlib.import_module(f"dkcore.{name}")
    else:
        raise AttributeError(f"module 'dkcore' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
