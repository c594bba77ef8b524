"""One rank of a job, around what it trains: its output, its end, the directory that all hosts must see."""

import contextlib
import io
import os
import runpy
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dkcore.errors import expected
from dkcore.frameworks import block_imports, keep_compiled, quieten
from dkcore.ranks.abort import exit_code, launched, print_cause
from dkcore.ranks.status import Status, StatusDirectory
from dkcore.ranks.world import World

if TYPE_CHECKING:
    from dkcore.training.job import Job

__all__ = ["by_lines", "ending", "leave_word", "print_into", "refuse_blind", "run", "train"]


@contextlib.contextmanager
def ending(world: World, failed: Callable[[BaseException], None]) -> Iterator[None]:
    """Around a rank's part: failed is called with the error that ends it, and an exit with a code ends the whole job."""
    try:
        yield
    except BaseException as error:
        if os.getpid() != world.pid:  # a forked child is no rank
            raise
        failed(error)
        if isinstance(error, SystemExit) and exit_code(error) and world.size > 1:
            if not launched():
                print_cause(world.rank, error)
            world.abort(exit_code(error))  # no other hook sees it, and the other ranks may wait for this one
        raise


def by_lines() -> None:
    """Print line by line: nothing is lost in a buffer when the rank is killed, and no line is torn by another rank's."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)


def refuse_blind(world: World, directory: str | os.PathLike[str] | None, mark: str | None = None) -> None:
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


def sees(directory: str | os.PathLike[str] | None, mark: str | None) -> bool:
    if directory is None or mark is None:
        return directory is None or os.path.isdir(directory)
    return StatusDirectory(directory).has_mark(mark)


def run(target: str, world: World) -> None:
    """Run a job's directory, or a script as ``python SCRIPT.py`` would."""
    quieten(os.environ)
    if os.path.isdir(target):
        from dkcore.training.job import Job

        train(Job.load(target), world)
    else:
        sys.argv[:] = sys.argv[1:]
        sys.path[0] = os.path.dirname(os.path.realpath(target))
        runpy.run_path(target, run_name="__main__")


def train(job: "Job", world: World) -> None:
    """Train a job, as one rank of ``world``."""
    os.environ["KERAS_BACKEND"] = job.backend  # before the first import of keras
    if job.backend == "jax":
        keep_compiled(os.environ)
    with block_imports("matplotlib", "pandas"):
        from dkcore.training import train

    train.train(job, world)


def leave_word(status: Status, directory: str, error: BaseException | None = None) -> None:
    """Write how this rank ended. Called at exit, after all other threads and functions: it ended well."""
    if status.state == "running" and status.pid == os.getpid():  # a forked child is no rank
        status.ended(error)
        StatusDirectory(directory).write(status)


def print_into(log: Path) -> None:
    """Send the standard output and the standard error of this process, native code included, into a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
