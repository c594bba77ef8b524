"""The hard end of a job: what all ranks do when one of them failed, and nothing would ever answer the others."""

import faulthandler
import fcntl
import os
import socket
import stat
import struct
import sys
import termios
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

from dkcore.errors import MergeError, one_line
from dkcore.ranks.processes import MARK
from dkcore.ranks.shm import unlink_segments
from dkcore.ranks.signals import Terminated

__all__ = ["abort", "abort_on_uncaught", "at_abort", "exit_code", "launched", "own_frames", "print_cause", "print_error", "printed"]

RUNNERS = ("<frozen runpy>", "mpi4py/__main__.py", "mpi4py/run.py", "dkcore/worker.py", "dkcore/training/rank.py")
DRAIN = 1.0  # seconds at most for mpiexec to read what a rank said last
LATER = 1.0  # seconds for the other nodes to find out and say so, when one has vanished
STUCK = 3.0  # seconds after which an MPI_Abort that does not come through is helped
LINES, CHARACTERS = 12, 2000  # at most of what an exception says in its traceback: a tensor may print all of its numbers

functions: list[Callable[[], None]] = []


def at_abort(function: Callable[[], None]) -> None:
    """Have ``function()`` called before this process tears its job down; for what would outlive it."""
    functions.append(function)


def abort(code: int, reason: str = "") -> None:
    """End the whole job at once with a non-zero exit ``code``; nothing that MPI put in shared memory stays."""
    if reason:
        print(f"{'dkcore' if launched() else 'Error'}: {reason}", file=sys.stderr)
    for function in [*functions, unlink_segments, drain]:
        try:
            function()
        except Exception:  # told, not raised: the job must end, and the other functions must run
            traceback.print_exc()
    if (mpi := sys.modules.get("mpi4py.MPI")) is None:  # of an agent: this process is the whole job
        os._exit(code)
    faulthandler.dump_traceback_later(STUCK, exit=True, file=os.dup(2))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI_Abort says that it was called, as if that were the cause
    mpi.COMM_WORLD.Abort(code)
    time.sleep(2 * STUCK)  # MPICH's returns now and then before mpiexec has ended us


def launched() -> bool:
    """Whether dkcore itself has started this job: then the launcher says last of all why it failed, and not the ranks."""
    return MARK in os.environ


def print_cause(rank: int, error: BaseException) -> None:
    """The last line of a failed job: which rank, where, and why."""
    print(f"Error: rank {rank} on {socket.gethostname()}: {one_line(error)}", file=sys.stderr)


def print_error(error: BaseException) -> None:
    """The traceback, in one piece: ranks share a terminal."""
    print(printed(error), end="", file=sys.stderr)


def printed(error: BaseException) -> str:
    """The traceback of an error, without the frames that started the script or job, and with long messages cut by "..."."""
    return "".join(map(clipped, traceback.format_exception(type(error), error, own_frames(error.__traceback__))))


def clipped(piece: str) -> str:
    """One piece of a traceback: a frame, or what an exception says."""
    text = "\n".join(piece.split("\n")[:LINES])[:CHARACTERS]
    return piece if len(text) >= len(piece.rstrip("\n")) else f"{text} ...\n"


def drain() -> None:
    """Have mpiexec read what this rank said: once a rank aborts, it stops listening."""
    sys.stdout.flush()
    sys.stderr.flush()
    deadline = time.monotonic() + DRAIN
    while time.monotonic() < deadline and any(unread(stream) for stream in (1, 2)):
        time.sleep(0.01)


def unread(file: int) -> int:
    """Bytes that are waiting in a pipe."""
    if not stat.S_ISFIFO(os.fstat(file).st_mode):
        return 0
    waiting: int = struct.unpack("i", fcntl.ioctl(file, termios.FIONREAD, b"\0" * 4))[0]
    return waiting


def abort_on_uncaught(rank: int) -> Callable[[], None]:
    """From now on an uncaught exception ends the job, after its traceback; the function that undoes this.

    So does ``os._exit(0)``: MPICH would end the others without a word, and call that a success.
    """
    pid, before, exit_at_once = os.getpid(), sys.excepthook, os._exit

    def exit_with_a_word(status: int) -> NoReturn:
        if os.getpid() == pid and status == 0:
            abort(1, f"rank {rank} on {socket.gethostname()}: process {pid} called os._exit(0), and others may wait for it.")
        exit_at_once(status)

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        trace = own_frames(trace)
        if before is sys.__excepthook__:
            print_error(error.with_traceback(trace))
        else:  # the user's own
            before(kind, error.with_traceback(trace), trace)
        if os.getpid() == pid:  # a forked child is no rank
            end_job(rank, error)

    def undo() -> None:
        if sys.excepthook is excepthook:
            sys.excepthook = before
        if os._exit is exit_with_a_word:
            os._exit = exit_at_once

    sys.excepthook, os._exit = excepthook, exit_with_a_word
    return undo


def end_job(rank: int, error: BaseException) -> None:
    """End the job by an error that this rank has printed."""
    if isinstance(error, MergeError):
        time.sleep(LATER)
    if not launched():
        print_cause(rank, error)
    abort(exit_code(error))


def exit_code(error: BaseException) -> int:
    """What a process that ends by this exception would return to its shell."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return 128 + (15 if isinstance(error, Terminated) else 2)
    return 1


def own_frames(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames that started the script or job."""
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename.endswith(RUNNERS):
        trace = trace.tb_next
    return trace
