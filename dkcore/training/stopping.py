"""SIGTERM and SIGUSR1 while a job trains that has a folder for checkpoints: one more checkpoint, and an orderly end."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Self

__all__ = ["CHECKPOINTS", "STOP", "StopSignals", "end_if_stopped", "stopped_at"]

CHECKPOINTS = "checkpoints.json"  # in the job's directory: what rank 0 says of its checkpoints
STOP = "stop"  # a file there, by which the launcher asks for the last one

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
SAME = 2.0  # seconds: batch systems and mpiexec may both send a signal that was meant once


class StopSignals:
    """A context manager in which the first signal calls ``ask()``; a later one does what it did before.

    It does nothing in a thread that is not the main one: Python allows handlers there alone. A handler that somebody else has set stays.
    own: the handlers that may be replaced, beside the default ones.
    """

    def __init__(self, ask: Callable[[], None], own: tuple[Any, ...] = ()):
        self.ask, self.own = ask, (signal.SIG_DFL, *own)
        self.previous: dict[int, Any] = {}
        self.first: float | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before in self.own:
                    self.previous[number] = before
                    signal.signal(number, self.handle)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        for number, before in self.previous.items():
            signal.signal(number, before)
        self.previous = {}

    def handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = now
            self.ask()
        elif now > self.first + SAME:
            self.restore()
            os.kill(os.getpid(), number)


def stopped_at(directory: Path) -> str | None:
    """The checkpoint after which a signal ended a job; None when it came to its end."""
    path = directory / CHECKPOINTS
    stopped: str | None = json.loads(path.read_text())["stopped_at"] if path.exists() else None
    return stopped


def end_if_stopped(directory: Path) -> None:
    """SystemExit with code 0, after a line that says how to go on, when a signal to a script has ended its training."""
    if (stopped := stopped_at(directory)) is not None:
        print(f"Stopped by a signal after {stopped}. To go on, pass resume={stopped!r} to the trainer.", flush=True)
        raise SystemExit(0)
