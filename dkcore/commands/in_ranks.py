"""The command line inside ranks that somebody else has started: ``mpirun -n 4 dkcore train ...``, ``srun dkcore run ...``."""

import functools
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dkcore.commands.going_on import how_to_go_on
from dkcore.errors import expected
from dkcore.ranks.abort import exit_code, print_cause, print_error
from dkcore.ranks.status import Status, StatusDirectory
from dkcore.ranks.world import World, init
from dkcore.seats.seat import Seat
from dkcore.seats.word import Word
from dkcore.seats.workers import starters
from dkcore.training import results
from dkcore.training.job import JOB, Job
from dkcore.training.rank import by_lines, ending, refuse_blind, run
from dkcore.training.stopping import stopped_at

__all__ = ["run_inside", "train_inside"]


def train_inside(out: Path, make: Callable[[str, int], Job], workers: int | None, hosts: object, seats: bool) -> dict[str, Any] | None:
    """Train as one rank of the world that there is: rank 0 makes the job and delivers it; its report there, None elsewhere.

    make: writes the job into a directory, for so many workers. seats: whether ranks run workers as their children.
    ValueError when workers or hosts say otherwise than the world.
    An error of rank 0 before the training, or after it, is raised there; the other ranks exit with code 1.
    """
    (starter,) = starters() if seats else (None,)  # before MPI
    world = init()
    refuse_contradictions(world, workers, hosts)
    job: Job | None = None  # rank 0's
    failure: BaseException | None = None
    if world.rank == 0:
        try:
            job = make_in(out, lambda directory: make(directory, world.size))
        except BaseException as error:  # told to the others first: they wait for us
            failure = error
    directory: Path | None = world.comm.bcast(job.directory if job else None)
    if failure:
        raise failure
    if directory is None:
        sys.exit(1)
    with ending(world, functools.partial(uncaught, world)):
        world.at_abort(lambda: shutil.rmtree(directory, ignore_errors=True))  # other ranks may still write there
        refuse_blind(world, directory)
        if starter is None:
            run(str(directory), world)
        else:
            word = Word(world, Status(world.rank, world.size), StatusDirectory(directory), None)
            Seat(Job.load(directory), world, starter, word).run()
    if job is None:
        return None
    try:
        if (stopped := stopped_at(directory)) is not None:
            print(how_to_go_on(stopped), flush=True)
            return None
        return results.deliver(job, out)
    finally:
        shutil.rmtree(directory)


def run_inside(script: str, arguments: tuple[str, ...], workers: int | None, hosts: object) -> None:
    """Run a script as one rank of the world that there is."""
    world = init()
    refuse_contradictions(world, workers, hosts)
    sys.argv[:] = [sys.argv[0], script, *arguments]
    by_lines()
    with ending(world, functools.partial(uncaught, world)):
        run(script, world)


def make_in(out: Path, make: Callable[[str], Job]) -> Job:
    directory = tempfile.mkdtemp(prefix=JOB, dir=results.prepare(out.resolve()))
    try:
        return make(directory)
    except BaseException:
        shutil.rmtree(directory)
        raise


def refuse_contradictions(world: World, workers: int | None, hosts: object) -> None:
    """End all ranks when the command line wants another world than there is; one of them says so, by a ValueError."""
    if workers in (None, world.size) and not hosts:
        return
    if world.rank != 0:
        sys.exit(1)
    if hosts:
        advice = "Leave them out, or start dkcore without mpiexec or srun."
        raise ValueError(expected("no hosts inside ranks that run already", "--hosts or --hostfile", advice))
    advice = "Leave --workers out: the ranks that are there do the work."
    raise ValueError(expected(f"--workers {world.size}, as many as mpiexec or srun has started", workers, advice))


def uncaught(world: World, error: BaseException) -> None:
    """Have an error end all ranks, as that of a script would: the command line would make one rank's exit of it."""
    if world.size > 1 and not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    elif isinstance(error, Exception):
        print_error(error)
        print_cause(world.rank, error)
        sys.exit(exit_code(error))
