"""What the driver tells each task of a launch."""

from dataclasses import dataclass
from typing import Any

__all__ = ["TaskPlan"]


@dataclass(frozen=True)
class TaskPlan:
    """Plain data; it travels as a dict, so that an executor that lacks this package can say so.

    address, key: of the driver's `Channel`. mpi: as for `dkcore.launch.mpi.find_mpi`. function: whether the ranks run a function,
    rather than a job. environment: variables for the ranks. names: of the columns that come. columns: what is done with them, as
    of `spark_bridge.columns.Columns.plan`; None without data. backend: of Keras, None when there is none. follow: whether the driver
    wants what the ranks print as it comes. shared_bytes: what the center takes. versions: of packages, on the driver. paths: for
    Python's imports. keep_threads: whether the user has set the number of threads.
    """

    address: tuple[str, int]
    key: bytes
    mpi: str
    function: bool
    environment: dict[str, str]
    names: list[str]
    columns: dict[str, Any] | None
    backend: str | None
    follow: bool
    shared_bytes: int
    versions: dict[str, str | None]
    paths: list[str]
    keep_threads: bool
