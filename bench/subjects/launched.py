"""When each stage of a launch under Spark was reached, as a rank can see it: from its files, and from the births of processes.

Also a custom module for a training, whose ranks import it once they have Keras: then each leaves what it saw in $DKCORE_STAGES.
"""

import atexit
import json
import os
import time
from pathlib import Path

from dkcore.data.arrow_columns import SIDECAR

__all__ = ["FOLDER", "STAGES", "TRAINING", "stages"]

FOLDER = "DKCORE_STAGES"

# What ends a stage, in the order in which they are reached; and what it is made of.
STAGES = {
    "worker": "submit, schedule, fork the task's Python (0 s: an old one was kept)",
    "task": "import the bridge there, connect to the driver",
    "guard": "find MPI, start the guard",
    "written": "examine the executors, their allGather, write the job's files",
    "told": "start mpiexec until it tells its commands",
    "rank": "their allGather; start the proxies, until the rank is born",
    "joined": "Python, mpi4py, MPI_Init, dkcore.init",
    "step": "load the function (imports pyspark)",
}
TRAINING = {
    **{name: STAGES[name] for name in ("worker", "task", "guard", "written")},
    "stored": "store the rows",
    "told": "their allGather; start mpiexec until it tells its commands",
    **{name: STAGES[name] for name in ("rank", "joined")},
    "framework": "import Keras and its backend, map the rows",
    "ready": "build and compile the model, join the center, wait for the others",
    "first": "first window: trace, compile, run",
    "trained": "the other windows",
    "ended": "save the model and the history, leave",
}


def stages() -> dict[str, float]:
    """Runs on a rank. The time of each until now, in seconds since the epoch; "told" is only of rank 0, beside which mpiexec runs."""
    home = Path(os.environ["DKCORE_DIRECTORY"])
    rank, proxy = os.getpid(), os.getppid()
    guard = parent_of(proxy)
    statuses = [json.loads(path.read_text()) for path in (home / "status").glob("rank-*.json")]
    found = {
        "step": time.time(),
        "worker": born(parent_of(guard)),
        "task": (home / "status" / "mark").stat().st_mtime,
        "guard": born(guard),
        "written": max(path.stat().st_mtime for name in ("function.pickle", "job.json") if (path := home / name).exists()),
        "rank": born(rank),
        "joined": next(status["time"] for status in statuses if status["pid"] == rank),
    }
    if (log := home / "logs" / "mpiexec.log").exists():
        found["told"] = log.stat().st_mtime
    if (rows := home / "data" / SIDECAR).exists():
        found["stored"] = rows.stat().st_mtime
    return found


def parent_of(process: int) -> int:
    return int(numbers_of(process)[1])


def born(process: int) -> float:
    """When a process began, in seconds since the epoch; Linux tells it in hundredths."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + int(numbers_of(process)[19]) / os.sysconf("SC_CLK_TCK")


def numbers_of(process: int) -> list[str]:
    """The fields of its stat file after its name."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def leave(found: dict[str, float]) -> None:
    """At the end of a rank that trains: write what it saw."""
    center = Path(os.environ["DKCORE_DIRECTORY"], "center")
    if center.exists():  # rank 0 wrote it when all were ready
        found["ready"] = center.stat().st_mtime
    Path(os.environ[FOLDER], f"{os.getpid()}.json").write_text(json.dumps({**found, "ended": time.time()}))


if FOLDER in os.environ and "DKCORE_DIRECTORY" in os.environ:
    seen = stages()
    seen["framework"] = seen.pop("step")
    atexit.register(leave, seen)
