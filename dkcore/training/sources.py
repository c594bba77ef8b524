"""Where training data may come from: a trainer asks here for the module that trains on what it was given.

A module of a data source has two functions:

    arrays_of(request)          the arrays that the driver has, by `dkcore.data.npz.KEYS`; None where only ranks see them. It refuses
                                what can be seen to be wrong before the model is looked at
    train(request, arrays)      starts the ranks and waits for them: the trained model, the report, the history
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from dkcore.launch.hosts import Host
    from dkcore.training.job import Job

__all__ = ["ARRAYS", "SOURCES", "Request", "source_of"]

ARRAYS = "dkcore.training.array_source"
SOURCES = {"pyspark.sql": "spark_bridge.dataframe"}  # package of the data's class: the module that trains on it; others may add theirs


@dataclass(frozen=True)
class Request:
    """What a trainer asks of a source: to train a model on the data, as the job says.

    Attributes:
        columns: of features and labels; weight_col: of sample weights, or None.
        hosts, mpi: as for `dkcore.launch`; directory: for the job's files while it runs, None for the source's choice.
        max_restarts: how often to start again when ranks fail.
        show: what ranks do, while they do it.
    """

    job: "Job"
    model: "keras.Model"
    data: Any
    validation: Any
    columns: tuple[Any, Any]
    weight_col: str | None
    hosts: "list[Host] | None"
    mpi: str
    directory: str | Path | None
    max_restarts: int
    show: bool = False


def source_of(data: Any) -> ModuleType:
    """The module that trains on data of this class; arrays are what no other source knows."""
    home = type(data).__module__
    found = (module for package, module in SOURCES.items() if home == package or home.startswith(f"{package}."))
    return importlib.import_module(next(found, ARRAYS))
