"""The agent of a node, ``python -m dkcore.seats.agent DIRECTORY``: all seats of a job as threads of one process, without MPI.

Design:
(a) Each seat is a rank, with a world, a status, a log and a share of the cores of its own; the worlds talk in memory. So what is true
    of seats that are processes is true of these, and there is one kind of worker.
(b) What a process has once is the main thread's: signals, and the starter, which ends with that thread. The workers end with the starter.
(c) A seat that fails ends the process, and with it the job; its launcher says why.
"""

import contextlib
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dkcore.errors import one_line
from dkcore.ranks.abort import exit_code, print_error, printed
from dkcore.ranks.agent_world import AgentWorld, worlds
from dkcore.ranks.cores import Share, shares
from dkcore.ranks.signals import Terminated
from dkcore.ranks.status import LOGS, OUTPUT, Status, StatusDirectory
from dkcore.seats.seat import Seat
from dkcore.seats.word import Word
from dkcore.seats.workers import Starter, starters
from dkcore.training.job import Job
from dkcore.training.rank import by_lines, print_into
from dkcore.training.stopping import StopSignals

__all__ = ["main"]


def main() -> None:
    """Run the workers of a job until all are through."""
    directory = Path(sys.argv[1])
    job = Job.load(directory)
    signal.signal(signal.SIGTERM, terminate)
    parts = shares(job.workers)
    seats = [place(job, *each) for each in zip(worlds(parts), parts, starters(job.workers), strict=True)]
    by_lines()
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    stops = StopSignals(seats[0].world.requests.ask, (terminate,)) if job.checkpoint_location else contextlib.nullcontext()
    try:
        with stops:
            for seat in seats:
                threading.Thread(target=occupy, args=(seat, ended), name=f"dkcore-seat-{seat.world.rank}", daemon=True).start()
            for _ in seats:
                ended.get()
    except KeyboardInterrupt as error:
        fail(seats[0], error)


def place(job: Job, world: AgentWorld, share: Share, starter: Starter) -> Seat:
    """The seat of one rank, which has said that it is there."""
    log = None
    if os.environ.get(OUTPUT, "logs") == "logs":
        log = job.home / LOGS / f"rank-{world.rank}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        if world.leader:  # whose the merge is; what else the process prints goes there, too
            print_into(log)
    files, status = StatusDirectory(job.home), Status(world.rank, world.size)
    files.write(status)
    return Seat(job, world, starter, Word(world, status, files, log), share)


def occupy(seat: Seat, ended: "queue.SimpleQueue[None]") -> None:
    """Be a seat, to the end."""
    try:
        seat.run()
        seat.world.close()
        seat.word.done()
    except BaseException as error:
        fail(seat, error)
    ended.put(None)


def fail(seat: Seat, error: BaseException) -> NoReturn:
    """End the job by an error of a seat."""
    print_error(error)
    seat.word.fail(exit_code(error) or 1, one_line(error), printed(error))


def terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated("SIGTERM")


if __name__ == "__main__":
    main()
