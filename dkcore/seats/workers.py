"""A seat's side of its starter: how the seat starts workers, and hears of their ends."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dkcore.errors import DkcoreError, expected
from dkcore.ranks.numbers import Numbers
from dkcore.ranks.requests import Requests
from dkcore.seats import starter

if TYPE_CHECKING:
    from dkcore.ranks.world import World

__all__ = ["Starter", "numbers_of", "starters", "without_mpi"]

ENDING = 5.0  # seconds for a starter to end
MPI = ("PMI", "PMIX", "OMPI_", "PRTE_", "PRRTE_", "HYDI_", "MPI_LOCAL", "MPIR_")  # how the variables of a rank begin


class Starter:
    """One seat's line to a process that starts workers; `starters` makes it.

    cpus: those that this process might use then. beside: the lines of other seats to the same process that are open, and this one.
    """

    def __init__(self, end: socket.socket, process: "subprocess.Popen[bytes]", beside: "set[Starter]"):
        self.cpus = os.sched_getaffinity(0)
        self.end, self.process, self.beside = end, process, beside
        beside.add(self)

    def start(self, command: list[str], environment: Mapping[str, str], cpus: set[int], files: list[int]) -> None:
        """Have a worker started, who gets the numbers of the files, and the starter's pid, as last arguments."""
        request = {"command": command, "environment": dict(environment), "cpus": sorted(cpus)}
        socket.send_fds(self.end, [json.dumps(request).encode()], files)

    def close(self) -> None:
        """No worker of this seat is left, and none will be started; the process ends with the last line."""
        self.end.close()
        self.beside.discard(self)
        if self.beside:
            return
        try:
            self.process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def hear(self, seconds: float) -> dict[str, int] | None:
        """What the starter says next: ``pid`` of who was started, or ``ended`` and ``code``; None when it says nothing in that time.

        DkcoreError when it is gone.
        """
        self.end.settimeout(seconds)
        try:
            data = self.end.recv(4096)
        except TimeoutError:
            return None
        except OSError:
            data = b""
        if not data:
            raise DkcoreError(expected("the starter of this seat", f"its end (pid {self.process.pid})", "Was it killed?"))
        said: dict[str, int] = json.loads(data)
        return said


def starters(count: int = 1) -> list[Starter]:
    """Lines for so many seats to one process. Made before MPI is initialized, by the main thread: the process ends with that thread."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
    files = [other.fileno() for _, other in pairs]
    command = [sys.executable, "-I", "-S", starter.__file__, str(os.getpid()), *map(str, files)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=files)
    for _, other in pairs:
        other.close()
    beside: set[Starter] = set()
    return [Starter(end, process, beside) for end, _ in pairs]


def without_mpi(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker, which is no rank: whoever imports mpi4py there gets a world of one."""
    return {name: value for name, value in environment.items() if not name.startswith(MPI)}


def numbers_of(world: "World") -> tuple[int, int]:
    """A descriptor for the file of the node's numbers, without the lock of this rank, and where they begin in it."""
    if world.liveness is not None:
        return os.open(f"/proc/self/fd/{world.liveness.file}", os.O_RDWR | os.O_CLOEXEC), world.liveness.numbers_at
    shared = world.requests.shared
    if not isinstance(shared, Numbers):
        shared = Numbers(os.memfd_create("dkcore-numbers"))
        world.requests = Requests(shared)
    return shared.file, shared.first
