"""When each stage of a launch under Spark was reached, as a rank can see it: from its files, and from the births of processes."""

import json
import os
import time
from pathlib import Path

__all__ = ["STAGES", "stages"]

# What ends a stage, in the order in which they are reached; and what it is made of.
STAGES = {
    "task": "submit, schedule, Python worker, import the bridge",
    "guard": "find MPI, start the guard",
    "stored": "examine executors, write files",
    "told": "start mpiexec until it tells its commands",
    "rank": "start the proxies, until the rank is born",
    "joined": "Python, mpi4py, MPI_Init, dkcore.init",
    "step": "load the function",
}


def stages() -> dict[str, float]:
    """Runs on a rank. The time of each, in seconds since the epoch; "told" is only of rank 0, beside which mpiexec runs."""
    now, home = time.time(), Path(os.environ["DKCORE_DIRECTORY"])
    rank, proxy = os.getpid(), os.getppid()
    statuses = [json.loads(path.read_text()) for path in (home / "status").glob("rank-*.json")]
    found = {
        "task": (home / "status" / "mark").stat().st_mtime,
        "guard": born(parent_of(proxy)),
        "stored": (home / "function.pickle").stat().st_mtime,
        "rank": born(rank),
        "joined": next(status["time"] for status in statuses if status["pid"] == rank),
        "step": now,
    }
    if (log := home / "mpiexec" / "logs" / "mpiexec.log").exists():
        found["told"] = log.stat().st_mtime
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
