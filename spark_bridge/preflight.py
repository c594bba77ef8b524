"""What would go wrong later, found before ranks start: on the driver, and on each executor."""

import importlib.util
import numbers
import os
import platform
import shutil
import socket
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

from dkcore.errors import DkcoreError, MissingError, NoRoomError, expected
from dkcore.ranks.shm import SHARED_MEMORY
from spark_bridge.task_plan import TaskPlan

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["alike", "compare", "examine", "slots", "validate_cluster"]

REGISTERING = 30.0  # seconds, as spark.scheduler.maxRegisteredResourcesWaitingTime
SIZES = ("spark.executor.instances", "spark.executor.cores", "spark.task.cpus", "spark.cores.max")
COMPARED = ("dkcore", "numpy", "keras", "mpi4py", "mpich")


def validate_cluster(spark: "SparkSession", ranks: int | None, profile: Any = None) -> int:
    """How many ranks to start: ``ranks``, or as many as there are slots.

    ValueError when the cluster has too few slots, or may take executors away while ranks run.
    """
    conf = spark.sparkContext.getConf()
    if conf.get("spark.dynamicAllocation.enabled", "false").lower() == "true":
        advice = "Barrier mode needs all executors at once: set spark.dynamicAllocation.enabled=false and spark.executor.instances."
        raise ValueError(expected("a cluster of fixed size", "spark.dynamicAllocation.enabled=true", advice))
    if ranks is not None and (isinstance(ranks, bool) or not isinstance(ranks, numbers.Integral) or ranks < 1):
        raise ValueError(expected("1 or more workers", repr(ranks), "num_workers is the number of MPI ranks."))
    free = await_slots(spark, ranks or 1, profile)
    wanted = free if ranks is None else int(ranks)
    if wanted > free or wanted < 1:
        cores = {name: conf.get(name) for name in ("spark.master", *SIZES) if conf.get(name)}
        advice = f"All ranks run at once. Lower num_workers, or add executors or cores (now {cores})."
        raise ValueError(expected(f"{max(wanted, 1)} task slots, one for each rank", f"{free}", advice))
    return wanted


def await_slots(spark: "SparkSession", wanted: int, profile: Any) -> int:
    """The slots that there are, once there are as many as wanted or none is coming: executors register one by one."""
    settled = time.monotonic() + (0.0 if (spark.sparkContext.master or "").startswith("local[") else REGISTERING)
    while (free := slots(spark, profile)) < wanted and time.monotonic() < settled:
        time.sleep(0.1)
    return free


def slots(spark: "SparkSession", profile: Any = None) -> int:
    """Tasks that the cluster runs at once."""
    java = spark.sparkContext._jsc.sc()
    manager = java.resourceProfileManager()
    if profile is None:
        return int(java.maxNumConcurrentTasks(manager.defaultResourceProfile()))
    manager.addResourceProfile(profile._java_resource_profile)
    return int(java.maxNumConcurrentTasks(profile._java_resource_profile))


def alike(backend: str | None) -> dict[str, str | None]:
    """The versions that driver and executors must have alike."""
    versions = {"Python": ".".join(platform.python_version_tuple()[:2])}
    return {**versions, **{name: version(name) for name in COMPARED if name != "keras" or backend}}


def version(name: str) -> str | None:
    if name == "dkcore":
        import dkcore

        return dkcore.__version__
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def examine(plan: TaskPlan) -> dict[str, Any]:
    """What an executor has; MissingError or NoRoomError when that will not do."""
    here = f"{socket.gethostname()} (pid {os.getpid()})"
    mine = alike(plan.backend)
    advice = "Install the same on all executors, or ship the environment with --archives (docs/spark.md)."
    for name, theirs in plan.versions.items():
        if mine.get(name) != theirs:
            raise MissingError(expected(f"{name} {theirs} on executor {here}, as on the driver", mine.get(name) or "none", advice))
    if plan.backend and importlib.util.find_spec(plan.backend) is None:
        raise MissingError(expected(f"{plan.backend} on executor {here}", "none", advice))
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < plan.shared_bytes:
        what = f"{plan.shared_bytes / 1e6:.0f} MB free in {SHARED_MEMORY} of executor {here}, for the center"
        advice = "In Kubernetes mount an emptyDir with medium: Memory there; in Docker pass --shm-size; else remount it with size=."
        raise NoRoomError(expected(what, f"{free / 1e6:.0f} MB", advice))
    return {"host": here, **mine}


def compare(hosts: list[dict[str, Any]]) -> None:
    """DkcoreError when executors differ among themselves."""
    for name in hosts[0]:
        for other in hosts[1:]:
            if name != "host" and other[name] != hosts[0][name]:
                received = f"{hosts[0][name]} on {hosts[0]['host']}, {other[name]} on {other['host']}"
                raise DkcoreError(expected(f"the same {name} on all executors", received, "Install it alike everywhere."))
