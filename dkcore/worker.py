"""One rank of a job: ``python -m dkcore.worker JOBDIR``, or ``python -m dkcore.worker SCRIPT.py ARGUMENTS``.

Every launcher ends here: mpiexec, Slurm, and the tasks of Spark.
"""

import atexit
import os
import sys
from pathlib import Path

from dkcore.errors import expected
from dkcore.ranks.abort import exit_code
from dkcore.ranks.heartbeat import start_heartbeat
from dkcore.ranks.processes import MARK
from dkcore.ranks.status import DIRECTORY, HEARTBEAT, LOGS, OUTPUT, Status, StatusDirectory
from dkcore.ranks.world import init
from dkcore.training.rank import by_lines, ending, leave_word, print_into, refuse_blind, run

__all__ = ["main"]


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
            files = StatusDirectory(directory)
            world.at_death(files.mark_lost)
            files.write(status)
            atexit.register(leave_word, status, directory)
            if HEARTBEAT in os.environ:
                start_heartbeat(files, world.rank)
        run(target, world)


if __name__ == "__main__":
    main()
