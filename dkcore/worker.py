"""One rank of a job: ``python -m dkcore.worker JOBDIR``, or ``python -m dkcore.worker SCRIPT.py ARGUMENTS``.

Every launcher ends here: mpiexec, Slurm, and the tasks of Spark.
"""

import atexit
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dkcore.errors import expected
from dkcore.ranks.abort import exit_code
from dkcore.ranks.heartbeat import start_heartbeat
from dkcore.ranks.processes import MARK
from dkcore.ranks.status import DIRECTORY, HEARTBEAT, LOGS, OUTPUT, Status, StatusDirectory
from dkcore.ranks.world import init
from dkcore.training.job import Job, has_seats
from dkcore.training.rank import by_lines, ending, leave_word, print_into, refuse_blind, run

if TYPE_CHECKING:
    from dkcore.seats.workers import Starter

__all__ = ["main"]


def main() -> None:
    """Join the job, run this rank's part of it, and leave word in its status how that ended."""
    if len(sys.argv) < 2:
        sys.exit(expected("python -m dkcore.worker JOBDIR | SCRIPT.py ARGUMENTS", "no argument", "Name a job or a script."))
    target, home = sys.argv[1], os.environ.get(DIRECTORY)
    directory = home or (target if os.path.isdir(target) else None)
    starter = starter_for(target)  # before MPI
    world = init()
    status = Status(world.rank, world.size)

    def failed(error: BaseException) -> None:
        if directory and exit_code(error):
            leave_word(status, directory, error)

    with ending(world, failed):
        refuse_blind(world, directory, os.environ.get(MARK) if home else None)
        log: Path | None = None
        if directory and os.environ.get(OUTPUT, "logs" if os.path.isdir(target) else "inherit") == "logs":
            print_into(log := Path(directory, LOGS, f"rank-{world.rank}.log"))
        by_lines()
        if directory:
            files = StatusDirectory(directory)
            world.at_death(files.mark_lost)
            files.write(status)
            atexit.register(leave_word, status, directory)
            if HEARTBEAT in os.environ:
                start_heartbeat(files, world.rank)
        if starter is None:
            run(target, world)
        else:
            from dkcore.seats.seat import Seat
            from dkcore.seats.word import Word

            Seat(Job.load(target), world, starter, Word(world, status, StatusDirectory(directory or target), log)).run()


def starter_for(target: str) -> "Starter | None":
    """What starts the workers of this seat, for a job that has seats."""
    if not os.path.isdir(target) or not has_seats(target):
        return None
    from dkcore.seats.workers import starters

    (starter,) = starters()
    return starter


if __name__ == "__main__":
    main()
