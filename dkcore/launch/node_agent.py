"""Start the agent of a job on this machine alone, which runs all workers as its children, and supervise it: no MPI is looked for."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from dkcore.launch.allocation import spreads
from dkcore.launch.launch import importable, prepare, scratch_folder
from dkcore.launch.launcher import outside_ranks
from dkcore.launch.requirements import check_processes, check_shared_memory
from dkcore.launch.supervisor import AGENT, Supervisor
from dkcore.ranks.processes import MARK
from dkcore.ranks.reaper import Plan
from dkcore.ranks.status import DIRECTORY, OUTPUT

__all__ = ["launch_agent", "suits"]

PROGRAM = ["-m", "dkcore.seats.agent"]


def suits(mpi: str, hosts: object) -> bool:
    """Whether a job with seats is one of this machine alone, and nobody has asked for an MPI."""
    return mpi == "auto" and hosts is None and not spreads(os.environ)


def launch_agent(directory: Path, ranks: int, *, on_tick: Callable[[], None] | None = None, temporary: bool = False) -> None:
    """Train the job of a directory with that many workers, and return when all have ended well.

    on_tick: called about five times a second. temporary: remove the directory too, should this process be killed. RankError as of
    `dkcore.launch.launch.launch`, and no process and no shared memory of the job is left then.
    """
    check_shared_memory()
    check_processes()
    home = directory.resolve()
    mark = prepare(home)
    ours = {DIRECTORY: str(home), OUTPUT: "logs", MARK: mark}
    with scratch_folder() as scratch:
        command = [sys.executable, *PROGRAM, str(home)]
        plan = Plan(command, str(home), mark, scratch, launcher=os.getpid(), temporary=temporary)
        Supervisor(plan, ranks, [], on_tick=on_tick, program=AGENT).run(importable({**outside_ranks(os.environ), **ours}), "logs")
