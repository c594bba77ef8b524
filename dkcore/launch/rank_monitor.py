"""A job's ranks, as their launcher sees them: who has joined, who is done, and who was lost."""

import math
import select
import time
from collections.abc import Iterable

from dkcore.launch.hosts import Host
from dkcore.ranks.heartbeat import Heartbeats
from dkcore.ranks.processes import Process, machine
from dkcore.ranks.status import Status, StatusDirectory

__all__ = ["RankMonitor"]


class RankMonitor:
    """What is known of a job's ranks.

    The kernel tells when ranks of this machine end. Those on other hosts say it themselves; when they die, their neighbours say so,
    or the connection to their host ends.

    status: the job's. ranks: how many there are to be. hosts: with as many slots as ranks were placed there. silence: seconds
    without a heartbeat after which a rank is lost. tolerant: the job goes on without ranks that die, as long as rank 0 lives.

    Attributes:
        statuses: what the ranks said last, by rank.
        lost: when, and which ranks, died first without a word; None as long as none has.
        lost_connection: the host to which the connection ended before its ranks, its exit code, and those ranks.
        missed: ranks without which the job goes on.
    """

    def __init__(self, status: StatusDirectory, ranks: int, hosts: list[Host], *, silence: float, tolerant: bool = False):
        self.status, self.ranks, self.hosts, self.silence, self.tolerant = status, ranks, hosts, silence, tolerant
        self.machine = machine()
        self.heartbeats = Heartbeats(status)
        self.poller = select.poll()
        self.processes: dict[int, tuple[int, Process]] = {}  # by the number of their pidfd: rank and process
        self.joined: set[int] = set()  # ranks of this machine
        self.statuses: dict[int, Status] = {}
        self.lost: tuple[float, list[int]] | None = None
        self.lost_connection: tuple[str, int, list[int]] | None = None
        self.missed: set[int] = set()

    # ------------------------------------------------------------------ what is known

    @property
    def states(self) -> list[str]:
        """Of all ranks that count."""
        return [status.state for rank, status in self.statuses.items() if rank not in self.missed or rank == 0]

    @property
    def missing(self) -> list[int]:
        """Ranks that have not joined."""
        return sorted(set(range(self.ranks)) - set(self.statuses))

    @property
    def wrong_sizes(self) -> set[int]:
        """The sizes of worlds that are not the job's."""
        return {status.size for status in self.statuses.values()} - {self.ranks}

    @property
    def failed(self) -> bool:
        """Whether a rank failed or was lost without which the job cannot go on."""
        return bool(self.lost or self.lost_connection) or not {"failed", "lost"}.isdisjoint(self.states)

    @property
    def done(self) -> bool:
        """Whether all that the job needs have ended well, as they say."""
        return self.states == ["done"] * (self.ranks - len(self.missed))

    @property
    def gone(self) -> bool:
        """Whether all ranks are of this machine, and their processes have ended."""
        return len(self.joined) == self.ranks and not self.processes

    # ------------------------------------------------------------------ looking

    def wait(self, seconds: float) -> None:
        """Until a process has ended, or so many seconds; then look."""
        ready = [number for number, _ in self.poller.poll(seconds * 1000)]
        self.look([self.unfollow(number) for number in ready if number in self.processes])

    def look(self, ended: list[int]) -> None:
        """Read what the ranks say, and see which ended without a word. The first to end are the cause. ended: ranks that have now."""
        ended = ended + self.follow_new()
        self.statuses = self.status.ranks()  # read after the rank's end: its word is the last one
        silent = [rank for rank in ended if self.statuses[rank].state in ("running", "lost")]
        if self.tolerant:
            self.go_on_without(silent)
            if 0 not in self.missed:
                return
        if silent and self.lost is None:
            self.lost = time.time(), silent
        self.look_remotely()

    def follow_new(self) -> list[int]:
        """Have the kernel tell when ranks of this machine end that have joined since; those that have ended already."""
        ended = []
        for rank, status in self.status.ranks().items():
            if rank not in self.joined and status.machine == self.machine:
                self.joined.add(rank)
                if (process := status.process()) is None:
                    ended.append(rank)
                else:
                    self.processes[process.fileno()] = rank, process
                    self.poller.register(process, select.POLLIN)
        return ended

    def unfollow(self, number: int) -> int:
        rank, process = self.processes.pop(number)
        self.poller.unregister(process)
        process.close()
        return rank

    def go_on_without(self, silent: Iterable[int]) -> None:
        lost = [rank for rank, status in self.statuses.items() if status.state == "lost"]
        unreachable = [rank for host in self.status.lost_connections() for rank in self.ranks_of(host) if self.left(rank)]
        self.missed.update(silent, lost, unreachable)

    def look_remotely(self) -> None:
        """See what is said of ranks on other hosts: by neighbours of the dead, and by the end of the connections to their hosts."""
        lost = [status for status in self.statuses.values() if status.state == "lost"]
        since = min((status.time for status in lost), default=math.inf)
        if lost and (self.lost is None or since < self.lost[0]):
            self.lost = since, [status.rank for status in lost]
        remote = [rank for rank, status in self.statuses.items() if status.state == "running" and status.machine != self.machine]
        if (silent := self.heartbeats.silent(remote, self.silence)) and self.lost is None:
            self.lost = time.time(), silent
        for host, code in self.status.lost_connections().items():
            left = [rank for rank in self.ranks_of(host) if self.left(rank)]
            if left and self.lost_connection is None:
                self.lost_connection = host, code, left

    def look_last(self) -> None:
        """Once all have ended: what they said until then."""
        self.statuses = self.status.ranks()
        if self.tolerant and 0 in self.statuses and self.statuses[0].state == "done":  # of a whole node nobody is left to say so
            self.missed.update(rank for rank, status in self.statuses.items() if status.state == "running")
        if not self.missed:
            self.look_remotely()

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

    def close(self) -> None:
        for _, process in self.processes.values():
            process.close()
        self.processes = {}
