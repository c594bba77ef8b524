"""The hard end of a job: what all ranks do when one of them failed, and nothing would ever answer the others."""

import faulthandler
import fcntl
import os
import stat
import struct
import sys
import termios
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from dkcore.errors import MergeError
from dkcore.guard import MPI_SEGMENTS, SHARED_MEMORY
from dkcore.watch import Terminated

__all__ = ["abort", "abort_on_uncaught", "at_abort", "exit_code", "mpi_segments", "own_frames", "unlink_segments"]

RUNNERS = ("<frozen runpy>", "mpi4py/__main__.py", "mpi4py/run.py", "dkcore/worker.py")
DRAIN = 1.0  # seconds at most for mpiexec to read what a rank said last
LATER = 1.0  # seconds for the other nodes to find out and say so, when one has vanished
STUCK = 3.0  # seconds after which an MPI_Abort that does not come through is helped

functions: list[Callable[[], None]] = []


def at_abort(function: Callable[[], None]) -> None:
    """Have ``function()`` called before this process tears its job down; for what would outlive it."""
    functions.append(function)


def abort(code: int, reason: str = "") -> None:
    """End the whole job at once with a non-zero exit ``code``; nothing that MPI put in shared memory stays."""
    if reason:
        print(f"dkcore: {reason}", file=sys.stderr)
    for function in [*functions, unlink_segments, drain]:
        try:
            function()
        except Exception:  # told, not raised: the job must end, and the other functions must run
            traceback.print_exc()
    faulthandler.dump_traceback_later(STUCK, exit=True, file=2)
    sys.modules["mpi4py.MPI"].COMM_WORLD.Abort(code)
    time.sleep(2 * STUCK)  # MPICH's returns now and then before mpiexec has ended us


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
    return struct.unpack("i", fcntl.ioctl(file, termios.FIONREAD, b"\0" * 4))[0]


def abort_on_uncaught() -> Callable[[], None]:
    """From now on an uncaught exception ends the job, after its traceback; the function that undoes this."""
    pid, before = os.getpid(), sys.excepthook

    def excepthook(kind, error, trace):
        trace = own_frames(trace)
        before(kind, error.with_traceback(trace), trace)
        if os.getpid() == pid:  # a forked child is no rank
            if isinstance(error, MergeError):
                time.sleep(LATER)
            abort(exit_code(error))

    def undo():
        if sys.excepthook is excepthook:
            sys.excepthook = before

    sys.excepthook = excepthook
    return undo


def exit_code(error: BaseException) -> int:
    """What a process that ends by this exception would return to its shell."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return 128 + (15 if isinstance(error, Terminated) else 2)
    return 1


def own_frames(trace):
    """A traceback without the frames that started the script or job."""
    while trace.tb_next is not None and trace.tb_frame.f_code.co_filename.endswith(RUNNERS):
        trace = trace.tb_next
    return trace


def mpi_segments(prefixes: tuple[str, ...] = MPI_SEGMENTS) -> list[str]:
    """Names in /dev/shm of what MPI shares between this rank and the others; an abnormal end would leave it there."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    mapped = {Path(line.split(maxsplit=5)[-1]).name for line in lines if SHARED_MEMORY in line}
    return sorted(name for name in mapped if name.startswith(prefixes) and not name.endswith("(deleted)"))


def unlink_segments(prefixes: tuple[str, ...] = MPI_SEGMENTS) -> None:
    """Take the names of MPI's segments away; who has mapped them keeps them."""
    for name in mpi_segments(prefixes):
        Path(SHARED_MEMORY, name).unlink(missing_ok=True)
