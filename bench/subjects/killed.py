"""A training whose workers are killed: who is killed and when, and what the survivors' slots show of it."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np

from dkcore.center import Center
from dkcore.errors import CenterNotFoundError, DkcoreError

__all__ = ["Killer", "Slots", "Watch"]

LOOK = 0.002  # seconds between two looks


class Beside(threading.Thread):
    """Runs as long as its context; ``over`` is set when that ends."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


class Killer(Beside):
    """Kills one process of ``victims()`` after the other, at times between failures that are drawn from an exponential distribution.

    mtbf: the mean, in seconds. victims: gives the pids of processes that train now. Where there is none the time goes by.

    Attributes:
        kills: the time of each, of time.perf_counter, and the pid.
    """

    def __init__(self, mtbf: float, victims: Callable[[], list[int]], seed: int):
        super().__init__()
        self.mtbf, self.victims, self.random = mtbf, victims, np.random.default_rng(seed)
        self.kills: list[tuple[float, int]] = []

    def run(self) -> None:
        while not self.victims():
            if self.over.wait(LOOK):
                return
        due = time.perf_counter()  # from when somebody trains on
        while True:
            due += self.random.exponential(self.mtbf)
            if self.over.wait(max(due - time.perf_counter(), 0)):
                return
            if found := self.victims():
                pid = int(self.random.choice(found))
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                self.kills.append((time.perf_counter(), pid))


class Slots:
    """The center of a job in a directory, from the moment it is there, as a monitor sees it."""

    def __init__(self, home: Path):
        self.home, self.center = home, None

    def read(self) -> list[dict]:
        """What the slots of live workers show that have exchanged."""
        try:
            if self.center is None:
                if not (self.home / "center").exists():
                    return []
                self.center = Center.attach((self.home / "center").read_text(), timeout=0)
            return [slot for slot in self.center.slots() if slot["state"] == "claimed" and slot["exchanges"]]
        except (CenterNotFoundError, DkcoreError, ValueError):  # it is gone, or was closed meanwhile
            return []

    def pids(self) -> list[int]:
        return [slot["pid"] for slot in self.read()]

    def close(self) -> None:
        if self.center is not None:
            self.center.close()
            self.center = None


class Watch(Beside):
    """When each worker exchanged, by pid: the times of time.perf_counter at which its count was seen to rise."""

    def __init__(self, slots: Slots):
        super().__init__()
        self.slots = slots
        self.seen: dict[int, list[float]] = {}
        self.ranks: dict[int, int] = {}

    def run(self) -> None:
        counts: dict[int, int] = {}
        while not self.over.wait(LOOK):
            for slot in self.slots.read():
                if slot["exchanges"] != counts.get(slot["pid"]):
                    counts[slot["pid"]] = slot["exchanges"]
                    self.ranks[slot["pid"]] = slot["rank"]
                    self.seen.setdefault(slot["pid"], []).append(time.perf_counter())

    def first_after(self, kill: float, victim: int) -> float | None:
        """Seconds from a kill to the first exchange of the worker that took the victim's place; None if there was none."""
        followed = [times[0] for pid, times in self.seen.items() if self.ranks[pid] == self.ranks.get(victim) and times[0] > kill]
        return min(followed) - kill if followed else None

    def next_after(self, kill: float, victim: int) -> float | None:
        """Seconds from a kill to the next exchange of the slowest survivor; None if no other worker lived."""
        waits = []
        for pid, times in self.seen.items():
            later = [moment for moment in times if moment > kill]
            if pid != victim and times[0] < kill and later:
                waits.append(later[0] - kill)
        return max(waits, default=None)
