"""A heartbeat of ranks that nobody else can see: on hosts that a batch system gave to mpiexec, to which we have no connection."""

import contextlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from dkcore.ranks.status import StatusDirectory

__all__ = ["Heartbeats", "start_heartbeat"]

INTERVAL = 2.0  # seconds


def start_heartbeat(status: StatusDirectory, rank: int) -> None:
    """From now on touch a file in the job's directory every other second, as long as this process lives."""
    path = status.heartbeat(rank)
    path.touch()
    threading.Thread(target=keep_touching, args=(path,), name="dkcore-heartbeat", daemon=True).start()


def keep_touching(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # it goes with the job's directory
        while True:
            os.utime(path)
            time.sleep(INTERVAL)


class Heartbeats:
    """What the launcher has seen of them, by its own clock."""

    def __init__(self, status: StatusDirectory):
        self.status = status
        self.seen: dict[int, tuple[int, float]] = {}  # rank -> the file's time, and when we saw it first

    def silent(self, ranks: Iterable[int], limit: float) -> list[int]:
        """Those of these ranks that gave no sign for ``limit`` seconds, of those that ever gave one."""
        now = time.monotonic()
        for rank in ranks:
            path = self.status.heartbeat(rank)
            if path.exists():
                with path.open() as opened:  # a network's file system tells the time anew when a file is opened
                    touched = os.fstat(opened.fileno()).st_mtime_ns
                if self.seen.get(rank, (None,))[0] != touched:
                    self.seen[rank] = touched, now
        return [rank for rank in ranks if rank in self.seen and now > self.seen[rank][1] + limit]
