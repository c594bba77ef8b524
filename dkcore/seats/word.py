"""What a seat tells: its launcher by its rank's status, its user by a line in its rank's log."""

import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from dkcore.ranks.abort import launched

if TYPE_CHECKING:
    from pathlib import Path

    from dkcore.ranks.status import Status, StatusDirectory
    from dkcore.ranks.world import World

__all__ = ["Word"]


class Word:
    """That of one seat. log: where its worker prints, too; None: where this process does."""

    def __init__(self, world: "World", status: "Status", files: "StatusDirectory", log: "Path | None"):
        self.world, self.status, self.files, self.log = world, status, files, log

    def say(self, text: str) -> None:
        """To this rank's log, which is not that of others in the same process."""
        with contextlib.nullcontext(sys.stderr) if self.log is None else self.log.open("a") as log:
            print(f"dkcore: {text}", file=log, flush=True)

    def works(self, pid: int, guest: bool) -> None:
        """A worker of that pid is there. guest: as one that has joined."""
        if guest:
            self.status.guests.append(pid)
        else:
            self.status.worker = pid
        self.files.write(self.status)

    def done(self) -> None:
        """This rank has ended well."""
        self.status.ended(None)
        self.files.write(self.status)

    def fail(self, code: int, error: str, trace: str) -> NoReturn:
        """End the job by what the worker, or its seat, failed of."""
        status = self.status
        status.code, status.state, status.error, status.trace = code, "failed", error, trace
        self.files.write(status)
        if not launched():
            print(f"Error: rank {self.world.rank} on {socket.gethostname()}: {error}", file=sys.stderr, flush=True)
        if self.world.size > 1:
            self.world.abort(code)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
