"""One rank of a job: ``python -m dkcore.worker JOBDIR``, or ``python -m dkcore.worker SCRIPT.py ARGUMENTS``.

Every launcher ends here: mpiexec, Slurm, and the tasks of Spark.
"""

import atexit
import os
import runpy
import sys
from pathlib import Path

from dkcore.abort import exit_code
from dkcore.errors import expected
from dkcore.nodes import World, init
from dkcore.status import LOGS, Status

__all__ = ["main"]

DIRECTORY = "DKCORE_DIRECTORY"  # where the launcher reads the status of the ranks
OUTPUT = "DKCORE_OUTPUT"  # "logs": each rank writes what it prints into a file of its own


def main() -> None:
    """Join the job, run this rank's part of it, and leave word in its status how that ended."""
    if len(sys.argv) < 2:
        sys.exit(expected("python -m dkcore.worker JOBDIR | SCRIPT.py ARGUMENTS", "no argument", "Name a job or a script."))
    target = sys.argv[1]
    directory = os.environ.get(DIRECTORY) or (target if os.path.isdir(target) else None)
    world = init()
    if directory and os.environ.get(OUTPUT, "logs" if os.path.isdir(target) else "inherit") == "logs":
        print_into(Path(directory, LOGS, f"rank-{world.rank}.log"))
    for stream in (sys.stdout, sys.stderr):
        # Line by line: nothing is lost in a buffer when the rank is killed, and no line is torn by another rank's.
        stream.reconfigure(line_buffering=True, write_through=False)
    status = Status(world.rank, world.size)
    if directory:
        status.write(directory)
        atexit.register(leave_word, status, directory)
    try:
        run(target, world)
    except BaseException as error:
        code = exit_code(error)
        if directory and code:
            leave_word(status, directory, error)
        if isinstance(error, SystemExit) and code and world.size > 1:
            world.abort(code)  # no other hook sees it, and the other ranks may wait for this one
        raise


def run(target: str, world: World) -> None:
    """Run a job's directory, or a script as ``python SCRIPT.py`` would."""
    if os.path.isdir(target):
        from dkcore.job import Job

        Job.load(target).run(world)
    else:
        sys.argv[:] = sys.argv[1:]
        sys.path[0] = os.path.dirname(os.path.realpath(target))
        runpy.run_path(target, run_name="__main__")


def leave_word(status: Status, directory: str, error: BaseException | None = None) -> None:
    """Write how this rank ended. Called at exit, after all other threads and functions: it ended well."""
    if status.state == "running":
        status.ended(error)
        status.write(directory)


def print_into(log: Path) -> None:
    """Send the standard output and the standard error of this process, native code included, into a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


if __name__ == "__main__":
    main()
