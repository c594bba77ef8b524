"""A sign of life of ranks that nobody else can see: on hosts that a batch system gave to mpiexec, to which we have no line."""

import contextlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from dkcore.status import FOLDER

__all__ = ["BEAT", "Beats", "beat"]

BEAT = "DKCORE_BEAT"  # in the environment of ranks that shall give one
INTERVAL = 2.0  # seconds


def beat(directory: str | os.PathLike, rank: int) -> None:
    """From now on touch a file in the job's directory every other second, as long as this process lives."""
    file = file_of(directory, rank)
    file.touch()
    threading.Thread(target=keep_on, args=(file,), name="dkcore-beat", daemon=True).start()


def keep_on(file: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # it goes with the job's directory
        while True:
            os.utime(file)
            time.sleep(INTERVAL)


def file_of(directory: str | os.PathLike, rank: int) -> Path:
    return Path(directory, FOLDER, f"beat-{rank}")


class Beats:
    """What the launcher has heard, by its own clock."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.heard: dict[int, tuple[int, float]] = {}  # rank -> the file's time, and when we saw it first

    def silent(self, ranks: Iterable[int], limit: float) -> list[int]:
        """Those of these ranks that gave no sign for ``limit`` seconds, of those that ever gave one."""
        now = time.monotonic()
        for rank in ranks:
            file = file_of(self.directory, rank)
            if file.exists():
                with file.open() as opened:  # a network's file system tells the time anew when a file is opened
                    touched = os.fstat(opened.fileno()).st_mtime_ns
                if self.heard.get(rank, (None,))[0] != touched:
                    self.heard[rank] = touched, now
        return [rank for rank in ranks if rank in self.heard and now > self.heard[rank][1] + limit]
