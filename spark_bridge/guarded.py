"""A command under a guard (dkcore/guard.py): with it, or with the task, everything goes that came of it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from dkcore import guard
from dkcore.status import FOLDER

__all__ = ["Guarded"]

STOPPING = 8.0  # seconds for a guard to take everything down


class Guarded:
    """Starts the command; it lives as long as this process, at most.

    Args:
        command: with its arguments. environment: of it.
        directory: where the guard leaves its exit code, in ``status``; temporary: whether it goes, should this process be killed.
        variable, mark: of the environment, by which all descendants are known. scratch: a folder that goes in any case.
        log: what is printed goes there.
        line: a file descriptor for the guard to hold: its other end sees when nothing is left.
    """

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path, *, variable: str, mark: str, scratch: Path,
                 log: Path, line: int, temporary: bool = False):
        self.directory = directory
        self.plan = {
            "launcher": os.getpid(), "mark": mark, "variable": variable, "since": time.time(), "scratch": str(scratch),
            "directory": str(directory), "temporary": temporary, "command": command,
        }  # fmt: skip
        call = [sys.executable, "-I", "-S", guard.__file__, json.dumps(self.plan)]
        with log.open("wb") as file:
            streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
            self.process = subprocess.Popen(call, **streams, pass_fds=[line], start_new_session=True, env=environment)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def code(self) -> int | None:
        """The command's exit code, -n when signal n killed it; None while it runs, and when the guard had to end it."""
        told = self.directory / FOLDER / "mpiexec"
        return int(told.read_text()) if told.exists() else None

    def stop(self) -> None:
        """End everything that came of the command."""
        guard.stop(self.process, self.plan, STOPPING)
