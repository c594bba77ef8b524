"""One rank of a job: ``python -m dkcore.worker JOBDIR``, or ``python -m dkcore.worker SCRIPT.py ARGUMENTS``.

Every launcher ends here: mpiexec, Slurm, and the tasks of Spark.
"""

import atexit
import contextlib
import functools
import os
import runpy
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from dkcore.abort import exit_code
from dkcore.beat import BEAT, beat
from dkcore.errors import expected
from dkcore.guard import MARK
from dkcore.nodes import World, init
from dkcore.status import FOLDER, LOGS, Status, mark_lost

__all__ = ["by_lines", "ending", "main", "refuse_blind", "run"]

DIRECTORY = "DKCORE_DIRECTORY"  # where the launcher reads the status of the ranks
OUTPUT = "DKCORE_OUTPUT"  # "logs": each rank writes what it prints into a file of its own


def main() -> None:
    """Join the job, run this rank's part of it, and leave word in its status how that ended."""
    if len(sys.argv) < 2:
        sys.exit(expected("python -m dkcore.worker JOBDIR | SCRIPT.py ARGUMENTS", "no argument", "Name a job or a script."))
    target, home = sys.argv[1], os.environ.get(DIRECTORY)
    directory = home or (target if os.path.isdir(target) else None)
    world = init()
    status = Status(world.rank, world.size)

    def failed(error: BaseException) -> None:
        if directory and exit_code(error):
            leave_word(status, directory, error)

    with ending(world, failed):
        refuse_blind(world, directory, os.environ.get(MARK) if home else None)
        if directory and os.environ.get(OUTPUT, "logs" if os.path.isdir(target) else "inherit") == "logs":
            print_into(Path(directory, LOGS, f"rank-{world.rank}.log"))
        by_lines()
        if directory:
            world.at_death(functools.partial(mark_lost, directory))
            status.write(directory)
            atexit.register(leave_word, status, directory)
        if directory and BEAT in os.environ:
            beat(directory, world.rank)
        run(target, world)


@contextlib.contextmanager
def ending(world: World, failed: Callable[[BaseException], None]) -> Iterator[None]:
    """Around a rank's part: failed is called with the error that ends it, and an exit with a code ends the whole job."""
    try:
        yield
    except BaseException as error:
        failed(error)
        if isinstance(error, SystemExit) and exit_code(error) and world.size > 1:
            world.abort(exit_code(error))  # no other hook sees it, and the other ranks may wait for this one
        raise


def by_lines() -> None:
    """Print line by line: nothing is lost in a buffer when the rank is killed, and no line is torn by another rank's."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=False)


def refuse_blind(world: World, directory: str | os.PathLike | None, mark: str | None = None) -> None:
    """End the job when a host does not see the job's directory, if it has one; all ranks call it.

    mark: what the launch wrote there: another host may have a directory of that name, too. One rank that sees it raises a
    FileNotFoundError; no other returns.
    """
    answers = world.comm.allgather((socket.gethostname(), sees(directory, mark)))
    blind = sorted({host for host, seen in answers if not seen})
    if not blind:
        return
    speaker = next((rank for rank, (_, seen) in enumerate(answers) if seen), 0)
    advice = "All hosts must share it: have --out, or directory=, on a file system that they do."
    text = expected(f"the job's directory on every host ({directory})", f"none on {', '.join(blind)}", advice)
    if world.rank == speaker and answers[speaker][1]:
        raise FileNotFoundError(text)
    if world.rank == speaker:
        world.abort(1, text)
    world.comm.Barrier()  # until the job ends


def sees(directory: str | os.PathLike | None, mark: str | None) -> bool:
    if directory is None or mark is None:
        return directory is None or os.path.isdir(directory)
    written = Path(directory, FOLDER, "mark")
    return written.exists() and written.read_text() == mark


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
