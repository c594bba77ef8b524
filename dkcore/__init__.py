"""dkcore: asynchronous distributed training of Keras models through one center variable in shared memory.

Importing it is light: no framework, no MPI and no compiler is loaded before something needs it.
"""

import importlib
import sys
from types import ModuleType

__version__ = "0.1.0"

HOMES = {
    "Center": "center",
    "Exchange": "exchange",
    "Job": "job",
    "Replica": "replica",
    "Rule": "rule",
    "init": "nodes",
    "rule": "rule",
    "synchronous": "synchronous",
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
}
MODULES = ("errors", "mnist", "rules", "trainers")

__all__ = [*HOMES, *MODULES]


class Package(ModuleType):
    """`rule` and `synchronous` name modules too, which the import of anything puts into our namespace: there the decorator wins."""

    def __setattr__(self, name: str, value: object) -> None:
        decorator = name in ("rule", "synchronous") and isinstance(value, ModuleType)
        super().__setattr__(name, getattr(value, name) if decorator else value)

    def __reduce__(self) -> tuple:
        """Pickled by name, as cloudpickle does with plain modules: functions that mention dkcore travel."""
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = Package


def __getattr__(name: str):
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
