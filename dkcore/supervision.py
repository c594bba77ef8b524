"""A job under way, as its launcher sees it: who has joined, who was lost, and when it is time to end it."""

import json
import math
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dkcore import guard
from dkcore.beat import Beats
from dkcore.failure import explain
from dkcore.hosts import Host
from dkcore.passage import Passage
from dkcore.status import LOGS, Status, birth, machine, read_lines, read_statuses

__all__ = ["Supervision"]

TICK = 0.2  # seconds between two calls of on_tick
GRACE = 1.5  # seconds for mpiexec to end by itself once a rank failed, so that all that the ranks said arrives
ENDING = 30.0  # seconds for mpiexec to end once all ranks have
STOPPING = 20.0  # seconds for the guards to take everything down


class Supervision:
    """Runs a plan of `dkcore.guard`, watches over its ranks, and tells how they ended.

    Ranks of this machine are watched by the kernel. Of those on other hosts (hosts: with as many slots as ranks were placed
    there) it knows what they say, what their neighbours say when they die, and when the line to their host ends. tolerant:
    the job goes on without ranks that die, as long as rank 0 lives.
    """

    def __init__(self, plan: dict, ranks: int, hosts: list[Host], *, on_tick: Callable[[], None] | None, timeout: float | None,
                 rendezvous: float, tolerant: bool = False):
        self.plan, self.ranks, self.hosts, self.tolerant = plan, ranks, hosts, tolerant
        self.missed: set[int] = set()  # ranks without which the job went on
        self.on_tick, self.timeout, self.rendezvous = on_tick, timeout, rendezvous
        self.directory, self.machine = Path(plan["directory"]), machine()
        self.log, self.passage = self.directory / LOGS / "mpiexec.log", None
        self.statuses: dict[int, Status] = {}
        self.beats = Beats(self.directory)
        self.processes: dict[int, int] = {}  # pidfd -> rank
        self.joined: set[int] = set()
        self.lost: tuple[float, list[int]] | None = None  # when, and which ranks died first without a word
        self.reason = ""  # why the job was ended though no rank failed
        self.severed: tuple[str, int, list[int]] | None = None  # the host, of which ranks, to which the line ended with a code
        self.bad_since = self.done_since = None

    def run(self, environment: dict[str, str], output: str) -> None:
        """Start mpiexec and stay until everything is gone; RankError if it did not end well."""
        self.began = time.monotonic()
        self.start(environment, output)
        try:
            while self.guard.poll() is None and not self.must_end():
                self.look(self.poller.poll(TICK * 1000))
                if self.on_tick is not None:
                    self.on_tick()
        finally:
            self.stop()
        self.statuses = read_statuses(self.directory)
        if not self.missed:
            self.look_afar()
        if self.missed and all(self.statuses[rank].state == "done" for rank in set(self.statuses) - self.missed):
            return
        if error := explain(self.statuses, self.ranks, self.lost, self.reason, self.severed, self.directory):
            raise error

    def start(self, environment: dict[str, str], output: str) -> None:
        command = [sys.executable, "-I", "-S", guard.__file__, json.dumps(self.plan)]
        # A session of its own: Ctrl-C comes to us, and we end the job in order.
        settings = {"stdin": subprocess.DEVNULL, "env": environment, "start_new_session": True}
        if output == "logs":
            with open(self.log, "wb") as log:
                self.guard = subprocess.Popen(command, stdout=log, stderr=log, **settings)
        elif self.hosts:
            self.passage = Passage()
            self.guard = subprocess.Popen(command, **self.passage.streams, **settings)
            self.passage.start()
        else:  # we see every rank ourselves, and need no word of mpiexec
            self.guard = subprocess.Popen(command, **settings)
            self.log.touch()
        self.poller = select.poll()
        self.guard_process = os.pidfd_open(self.guard.pid)
        self.poller.register(self.guard_process, select.POLLIN)

    def look(self, ready: list[tuple[int, int]]) -> None:
        """Read what the ranks say, and see which ended without a word. The first to end are the cause."""
        ended = [self.unfollow(process) for process, _ in ready if process in self.processes]
        for rank, status in read_statuses(self.directory).items():
            if rank not in self.joined and status.machine == self.machine:
                self.joined.add(rank)
                ended += [] if self.follow(status) else [rank]
        self.statuses = read_statuses(self.directory)  # read after the rank's end: its word is the last one
        speechless = [rank for rank in ended if self.statuses[rank].state in ("running", "lost")]
        if self.tolerant:
            told = [rank for rank, status in self.statuses.items() if status.state == "lost"]
            severed = [rank for host in read_lines(self.directory) for rank in self.ranks_of(host) if self.left(rank)]
            self.missed.update(speechless, told, severed)
            if 0 not in self.missed:
                return
        if speechless and self.lost is None:
            self.lost = time.time(), speechless
        self.look_afar()

    def look_afar(self) -> None:
        """See what is told of ranks on other hosts: by neighbours of the dead, and by the end of the lines to their hosts."""
        lost = [status for status in self.statuses.values() if status.state == "lost"]
        since = min((status.time for status in lost), default=math.inf)
        if lost and (self.lost is None or since < self.lost[0]):
            self.lost = since, [status.rank for status in lost]
        afar = [rank for rank, status in self.statuses.items() if status.state == "running" and status.machine != self.machine]
        if (silent := self.beats.silent(afar, self.rendezvous)) and self.lost is None:
            self.lost = time.time(), silent
        for host, code in read_lines(self.directory).items():
            left = [rank for rank in self.ranks_of(host) if self.left(rank)]
            if left and self.severed is None:
                self.severed = host, code, left

    def left(self, rank: int) -> bool:
        """Whether a rank has not told of its end."""
        return rank not in self.statuses or self.statuses[rank].state == "running"

    def ranks_of(self, name: str) -> range:
        """The ranks that were placed on a host."""
        before = 0
        for host in self.hosts:
            if host.name == name:
                return range(before, before + host.slots)
            before += host.slots
        return range(0)

    def follow(self, status: Status) -> bool:
        """Have the kernel tell when a rank ends; False when it has already."""
        try:
            process = os.pidfd_open(status.pid)
        except ProcessLookupError:
            return False
        if birth(status.pid) != status.birth:  # the pid is somebody else's by now
            os.close(process)
            return False
        self.processes[process] = status.rank
        self.poller.register(process, select.POLLIN)
        return True

    def unfollow(self, process: int) -> int:
        self.poller.unregister(process)
        os.close(process)
        return self.processes.pop(process)

    def must_end(self) -> bool:
        """Whether it is time to end the job ourselves."""
        now = time.monotonic()
        states = [status.state for rank, status in self.statuses.items() if rank not in self.missed or rank == 0]
        if self.lost or self.severed or not {"failed", "lost"}.isdisjoint(states):
            self.bad_since = self.bad_since or now
            return now > self.bad_since + GRACE
        if states == ["done"] * (self.ranks - len(self.missed)):
            self.done_since = self.done_since or now
        sizes = {status.size for status in self.statuses.values()} - {self.ranks}
        if sizes:
            self.reason = f"a world of {sizes.pop()}: mpiexec and the MPI library that mpi4py loads do not belong together"
        elif len(self.statuses) < self.ranks and now > self.began + self.rendezvous:
            missing = sorted(set(range(self.ranks)) - set(self.statuses))
            self.reason = f"no word from ranks {missing} within {self.rendezvous:g} s"
        elif self.timeout is not None and now > self.began + self.timeout:
            self.reason = f"no end within the timeout of {self.timeout:g} s"
        elif self.done_since and now > self.done_since + ENDING:
            self.reason = f"all ranks done, but mpiexec not ended {ENDING:g} s later"
        # Ranks that are done and gone have done all; what mpiexec waits for then is a process that they left behind.
        gone = self.done_since and len(self.joined) == self.ranks and not self.processes
        return bool(self.reason) or bool(gone and now > self.done_since + GRACE)

    def stop(self) -> None:
        """Have the guard end everything that is left."""
        guard.stop(self.guard, self.plan, STOPPING)
        if self.passage:
            self.passage.end(self.log, GRACE)
        for process in [*self.processes, self.guard_process]:
            os.close(process)


