"""A task's rank under way: whether it lives, what it says, and what the driver is told of that."""

import os
import socket
import time
from pathlib import Path
from select import select

from dkcore.status import FOLDER, LOGS, birth, read_statuses
from spark_bridge.channel import Line
from spark_bridge.guarded import Guarded

__all__ = ["CHECKPOINT", "EndedError", "Watch"]

CHECKPOINT = "checkpoint.npz"  # dkcore.checkpoint.FILE, without Keras
JOINING = 60.0  # seconds for a rank to have joined the others
TICK = 0.1  # seconds
WORD = 0.5  # seconds for a guard to say that its command was killed
ENDING = 8.0  # seconds for the driver to end the job, once it was told of a failure


class EndedError(Exception):
    """The driver has ended this job, or is gone; it knows why."""


class Watch:
    """Over one rank, its proxy and, beside task 0, mpiexec.

    directory: the task's. line: to the driver. follow: whether it wants what the rank prints as it comes.
    """

    def __init__(self, directory: Path, rank: int, line: Line, *, follow: bool):
        self.directory, self.rank, self.line, self.wanted = directory, rank, line, follow
        self.proxy: Guarded | None = None
        self.mpiexec: Guarded | None = None
        self.checkpoint: int | None = None  # when the one that was sent was made

    @property
    def state(self) -> str:
        """What the rank says of itself."""
        status = read_statuses(self.directory).get(self.rank)
        return "running" if status is None else status.state

    def await_rank(self) -> None:
        """Wait for the rank's first word, or its proxy's end."""
        deadline = time.monotonic() + JOINING
        while self.proxy.alive and not read_statuses(self.directory):
            if time.monotonic() > deadline:
                self.fail("silent", f"no word from rank {self.rank} within {JOINING:g} s")
            self.heed()
            time.sleep(TICK / 10)

    def stay(self) -> None:
        """Until this rank has ended well, its proxy with it, and mpiexec; EndedError when one of them has not."""
        process = self.follow()
        while self.proxy.alive:
            if process is None:
                time.sleep(TICK)
            elif select([process], [], [], TICK)[0]:
                os.close(process)
                process = None
                self.mourn(time.time())
            self.heed()
            self.look()
        if process is not None:
            os.close(process)
        self.mourn(time.time())
        while self.mpiexec is not None and self.mpiexec.alive:  # until the last rank of all has ended
            self.heed()
            time.sleep(TICK / 2)
        self.look()

    def follow(self) -> int | None:
        """A pidfd of the rank; None when it has ended already."""
        status = read_statuses(self.directory).get(self.rank)
        try:
            process = None if status is None else os.pidfd_open(status.pid)
        except ProcessLookupError:
            return None
        if process is not None and birth(status.pid) != status.birth:  # the pid is somebody else's by now
            os.close(process)
            return None
        return process

    def heed(self) -> None:
        """EndedError when the driver has ended this, or is gone."""
        if self.line.over:
            raise EndedError

    def mourn(self, since: float) -> None:
        """When the rank has ended without a word, tell the driver. A proxy that was killed took it along."""
        if self.state != "running":
            return
        deadline = time.monotonic() + WORD
        while (code := self.proxy.code) is None and time.monotonic() < deadline:
            time.sleep(TICK / 10)
        killed = code is not None and code < 0
        text = f"the proxy of rank {self.rank} (on {socket.gethostname()}) killed by signal {-code}" if killed else ""
        self.fail("proxy" if killed else "dead", text, since=since)

    def look(self) -> None:
        """Pass on what the rank prints and saves; tell the driver when it, or mpiexec, has failed."""
        if self.wanted:
            self.line.follow(self.directory / LOGS / f"rank-{self.rank}.log", f"{LOGS}/rank-{self.rank}.log")
        self.tell_checkpoint()
        if self.state == "failed":
            self.fail("failed", "")
        if self.mpiexec is not None and not self.mpiexec.alive and (code := self.mpiexec.code) != 0:
            killed = code is None or code < 0
            how = "a signal" if code is None else f"signal {-code}"
            self.fail("mpiexec" if killed else "ended", f"mpiexec killed by {how}" if killed else "")

    def tell_checkpoint(self) -> None:
        """Send the checkpoint when there is a new one."""
        path = self.directory / CHECKPOINT
        if path.exists() and (made := path.stat().st_mtime_ns) != self.checkpoint:
            self.line.replace(path, CHECKPOINT)
            self.checkpoint = made

    def fail(self, kind: str, text: str, **header) -> None:
        """Tell the driver, wait for it to end the job, and end."""
        self.report(kind, text=text, **header)
        deadline = time.monotonic() + ENDING
        while not self.line.over and time.monotonic() < deadline:  # others may know better, and need their time
            time.sleep(TICK)
        raise EndedError(text or kind)

    def report(self, kind: str, **header) -> None:
        self.tell()
        self.line.say(kind, **header)

    def tell(self) -> None:
        """Send what an explanation needs: the rank's status, and the ends of the logs."""
        name = f"{FOLDER}/rank-{self.rank}.json"
        if (self.directory / name).exists():
            self.line.replace(self.directory / name, name)
        for name in (f"rank-{self.rank}.log", *(["mpiexec.log"] if self.mpiexec else [])):
            self.line.follow(self.directory / LOGS / name, f"{LOGS}/{name}")
        if self.mpiexec and (code := self.mpiexec.code) is not None:
            self.line.say("file", str(code).encode(), name=f"{FOLDER}/mpiexec", append=False, whole=True)

    def stop(self) -> None:
        """End everything that was started."""
        for guarded in (self.proxy, self.mpiexec):
            if guarded is not None:
                guarded.stop()
