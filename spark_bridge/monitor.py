"""A task's rank under way: whether it lives, what it says, and what the driver is told of that."""

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

from dkcore.launch.reaped_command import ReapedCommand
from dkcore.ranks.status import FOLDER, LOGS, Status, StatusDirectory
from spark_bridge.channel import Line

__all__ = ["EndedError", "Monitor"]

CHECKPOINTS = "checkpoints"  # the folder in a task's directory where its rank writes parts of checkpoints
JOINING = 60.0  # seconds for a rank to have joined the others
TICK = 0.1  # seconds
WORD = 0.5  # seconds for a reaper to say that its command was killed
STOPPING = 8.0  # seconds for a reaper to take everything down
ENDING = 8.0  # seconds for the driver to end the job, once it was told of a failure


class EndedError(Exception):
    """The driver has ended this job, or is gone; it knows why."""


class Monitor:
    """Over one rank, its proxy and, beside task 0, mpiexec.

    directory: the task's. line: to the driver. follow: whether it wants what the rank prints as it comes.
    """

    proxy: ReapedCommand  # once the task has started it

    def __init__(self, directory: Path, rank: int, line: Line, *, follow: bool):
        self.directory, self.rank, self.line, self.wanted = directory, rank, line, follow
        self.mpiexec: ReapedCommand | None = None

    @property
    def status(self) -> Status | None:
        """What the rank said last; None before its first word."""
        return StatusDirectory(self.directory).ranks().get(self.rank)

    @property
    def state(self) -> str:
        """What the rank says of itself."""
        status = self.status
        return "running" if status is None else status.state

    def await_rank(self) -> None:
        """Wait for the rank's first word, or its proxy's end."""
        deadline = time.monotonic() + JOINING
        while self.proxy.alive and self.status is None:
            if time.monotonic() > deadline:
                self.fail("silent", f"rank {self.rank} on {socket.gethostname()}: no word from it within {JOINING:g} s.")
            self.check_driver()
            time.sleep(TICK / 10)

    def stay(self) -> None:
        """Until this rank has ended well, its proxy with it, and mpiexec; EndedError when one of them has not."""
        status = self.status
        # Where a pid means another process the rank's proxy tells of its end.
        process = None if status is None else status.process()
        with process or contextlib.nullcontext():
            living = process
            while self.proxy.alive:
                if living is None:
                    time.sleep(TICK)
                elif living.ended(within=TICK):
                    living = None
                    self.on_rank_death(time.time())
                self.check_driver()
                self.look()
        self.on_rank_death(time.time())
        while self.mpiexec is not None and self.mpiexec.alive:  # until the last rank of all has ended
            self.check_driver()
            time.sleep(TICK / 2)
        self.look()

    def check_driver(self) -> None:
        """EndedError when the driver has ended this, or is gone."""
        if self.line.over:
            raise EndedError

    def on_rank_death(self, since: float) -> None:
        """When the rank has ended without a word, tell the driver. A proxy that was killed took it along."""
        if self.state != "running":
            return
        deadline = time.monotonic() + WORD
        while (code := self.proxy.exit_code) is None and time.monotonic() < deadline:
            time.sleep(TICK / 10)
        if code is None or code >= 0:
            self.fail("dead", "", since=since)
        else:
            text = f"rank {self.rank} on {socket.gethostname()}: its proxy was killed by signal {-code}."
            self.fail("proxy", text, since=since)

    def look(self) -> None:
        """Pass on what the rank prints and saves; tell the driver when it, or mpiexec, has failed."""
        if self.wanted:
            self.line.follow(self.directory / LOGS / f"rank-{self.rank}.log", f"{LOGS}/rank-{self.rank}.log")
        self.send_parts()
        if self.state == "failed":
            self.fail("failed", "")
        if self.mpiexec is not None and not self.mpiexec.alive and (code := self.mpiexec.exit_code) != 0:
            killed = code is None or code < 0
            how = "a signal" if code is None else f"signal {-code}"
            self.fail("mpiexec" if killed else "ended", f"mpiexec killed by {how}" if killed else "")

    def send_parts(self) -> None:
        """Send parts of checkpoints that are whole, and remove them here: a part is, once its record is there."""
        for record in sorted(self.directory.glob(f"{CHECKPOINTS}/*/[!.]*.json")):
            for path in (record.with_suffix(".npz"), record):
                if path.exists():  # a part that did not fit here has a record alone
                    self.line.replace(path, str(path.relative_to(self.directory)))
                    path.unlink()

    def fail(self, kind: str, text: str, **header: Any) -> None:
        """Tell the driver, wait for it to end the job, and end."""
        self.report(kind, text=text, **header)
        deadline = time.monotonic() + ENDING
        while not self.line.over and time.monotonic() < deadline:  # others may know better, and need their time
            time.sleep(TICK)
        raise EndedError(text or kind)

    def report(self, kind: str, **header: Any) -> None:
        self.tell()
        self.line.say(kind, **header)

    def tell(self) -> None:
        """Send what an explanation needs: the rank's status, and the ends of the logs."""
        name = f"{FOLDER}/{StatusDirectory.name_of(self.rank)}"
        if (self.directory / name).exists():
            self.line.replace(self.directory / name, name)
        for name in (f"rank-{self.rank}.log", *(["mpiexec.log"] if self.mpiexec else [])):
            self.line.follow(self.directory / LOGS / name, f"{LOGS}/{name}")
        if self.mpiexec and (code := self.mpiexec.exit_code) is not None:
            self.line.say("file", str(code).encode(), name=f"{FOLDER}/{StatusDirectory.EXIT_CODE}", append=False, whole=True)

    def stop(self) -> None:
        """End everything that was started."""
        for command in (getattr(self, "proxy", None), self.mpiexec):
            if command is not None:
                command.stop(STOPPING)
