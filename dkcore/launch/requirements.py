"""What the platform must have before ranks are started: looked for by `launch`, and by ``dkcore doctor``."""

import errno
import os
import tempfile

from dkcore.errors import MissingError, NoRoomError, expected
from dkcore.ranks.processes import Process
from dkcore.ranks.shm import SHARED_MEMORY

__all__ = ["MPI_ROOM", "check_processes", "check_room", "check_shared_memory"]

MPI_ROOM = 5_750_000  # bytes of shared memory for each rank of a node: what MPICH 5 takes (5.4 MB), and a little for a center


def check_shared_memory() -> None:
    """MissingError when nobody may write into shared memory."""
    try:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY) as file:
            file.write(b"\0")
            file.flush()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # full, or the user's quota is: `check_room` says how much there is
            return
        advice = f"Mount it for writing: mount -o remount,rw,size=2g {SHARED_MEMORY}, or docker run --shm-size=2g."
        raise MissingError(expected(f"to write into {SHARED_MEMORY}", error, advice)) from error


def check_processes() -> None:
    """MissingError where processes cannot be told apart for sure: before one is killed it must be the one that was meant."""
    try:
        with Process(os.getpid()) as own:
            own.send(0)
    except OSError as error:
        advice = "Use Linux 5.3 or newer, and a sandbox that permits pidfd_open and pidfd_send_signal; or start ranks by mpirun yourself."
        raise MissingError(expected("a system that gives pidfds", error, advice)) from error


def check_room(ranks: int) -> None:
    """NoRoomError when MPI alone would not find room in shared memory for that many ranks: it dies of that without a word."""
    state = os.statvfs(SHARED_MEMORY)
    have, need = state.f_bavail * state.f_frsize, ranks * MPI_ROOM
    if state.f_blocks and have < need:
        advice = f"Enlarge it (mount -o remount,size=2g {SHARED_MEMORY}, or docker run --shm-size=2g), or start fewer ranks."
        what = f"{need >> 20} MiB free in {SHARED_MEMORY}, which MPI needs for {ranks} ranks beside the center"
        raise NoRoomError(expected(what, f"{have >> 20} MiB", advice))
