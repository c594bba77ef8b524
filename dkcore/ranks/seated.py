"""A worker's world when a seat runs it: the seat is the rank, and makes the calls of MPI that the worker asks for.

Design:
(a) The worker is a child process of its seat. It has no MPI: a request goes to the seat over a socket, and the answer comes back.
(b) The seat keeps what all calls came to. Another worker that follows a dead one runs the same program; the seat answers it from what
    it has kept as far as the dead one came, and only from there on calls the other ranks, who do not notice.
(c) What is asked often does not go this way: exchanges and rounds are in the shared memory of the center, and the numbers of
    `dkcore.ranks.requests` in a file that the worker opens itself.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dkcore.arrays import Array
from dkcore.ranks import world as worlds
from dkcore.ranks.channel import Channel
from dkcore.ranks.numbers import Numbers
from dkcore.ranks.requests import Requests
from dkcore.ranks.world import World

__all__ = ["Again", "Brief", "Departure", "Line", "SeatedWorld", "again_of", "begin_together", "begun_at"]


@dataclass(frozen=True)
class Again:
    """What a worker takes over from those before it in its seat.

    exchanges: that are in the center. epoch, step, steps: where the last of them left off: batches of the epoch, steps in all; or the
    epoch is None: nothing was trained yet. histogram: of staleness, as of a slot. center: its name. over: train no more, but deliver.
    guest: it has joined a job that runs, and is no rank. ahead: exchanges that its slot shows from the beginning, so that nobody waits
    for it. account: for the report, see `dkcore.seats.account`. samples: of this seat until there, where batches are leased.
    node_rows: of a guest, where batches are leased: the arguments of the `NodeShard` that it shares. first: where the first worker of the
    seat began, see `dkcore.training.resuming.first_of`.
    """

    center: str
    exchanges: int = 0
    epoch: int | None = None
    step: int = 0
    steps: int = 0
    histogram: tuple[int, ...] = ()
    over: bool = False
    guest: bool = False
    ahead: int = 0
    account: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    node_rows: dict[str, Any] | None = None
    first: dict[str, Any] | None = None

    def added(self, histogram: Iterable[int]) -> list[int]:
        """A histogram of the worker that took this over, with that of the workers before it."""
        mine = [int(each) for each in histogram]
        return [one + others for one, others in zip(mine, self.histogram, strict=True)] if self.histogram else mine


@dataclass(frozen=True)
class Brief:
    """What a seat tells its worker first. world: fields of `World`. numbers: where those of the node begin in their file. log: or None."""

    directory: str
    world: dict[str, Any]
    node_ranks: list[int]
    numbers: int
    log: str | None
    nodes_place: int | None
    again: Again | None = None
    tolerant: bool = False


class Line:
    """A worker's end of the channel to its seat: one request at a time, from any thread."""

    def __init__(self, channel: Channel):
        self.channel, self.lock = channel, threading.Lock()

    def call(self, name: str, *arguments: Any) -> Any:
        """What the seat's call of that name returns, or raises."""
        with self.lock:
            self.channel.send((name, arguments))
            failed, answer = self.channel.receive()
        if failed:
            raise answer
        return answer


class SeatedRequest:
    """An Ibarrier: the seat does the waiting."""

    def __init__(self, line: Line):
        self.line = line

    def Test(self) -> bool:
        self.line.call("gate")
        return True


class SeatedComm:
    """What workers use of an mpi4py communicator. name: of the seat's, ``comm``, ``node`` or ``leaders``."""

    def __init__(self, line: Line, name: str, rank: int, size: int):
        self.line, self.name, self.rank, self.size = line, name, rank, size

    def ask(self, call: str, *arguments: Any) -> Any:
        return self.line.call("comm", self.name, call, *arguments)

    def allgather(self, value: Any) -> Any:
        return self.ask("allgather", value)

    def bcast(self, value: Any, root: int = 0) -> Any:
        return self.ask("bcast", value, root)

    def send(self, value: Any, dest: int, tag: int = 0) -> None:
        self.ask("send", value, dest, tag)

    def recv(self, source: int, tag: int = 0) -> Any:
        return self.ask("recv", None, source, tag)

    def Barrier(self) -> None:
        self.ask("Barrier")

    def Ibarrier(self) -> SeatedRequest:
        return SeatedRequest(self.line)

    def Bcast(self, array: Array, root: int = 0) -> None:
        """The seat keeps nothing of this: a worker that follows has no need of it."""
        data = self.line.call("broadcast", self.name, array.tobytes() if self.rank == root else array.nbytes, root)
        if self.rank != root:
            array[:] = np.frombuffer(data, array.dtype)


class SeatedRoll:
    """Roll calls, which the seat answers."""

    open = False

    def __init__(self, line: Line):
        self.line = line

    def call(self, what: str) -> None:
        self.line.call("roll", what)

    def leave(self, tell: bool = True) -> None:
        """The seat tells the others."""


@dataclass
class SeatedWorld(World):
    """line: to the seat. again: what there is to take over; None for the first worker of a seat. neighbours: the ranks of the node."""

    line: Line = field(kw_only=True, repr=False)
    neighbours: list[int] = field(kw_only=True, default_factory=list)
    again: Again | None = field(kw_only=True, default=None)

    @classmethod
    def of(cls, brief: Brief, channel: Channel, numbers: int) -> "SeatedWorld":
        """The world of this process. numbers: the descriptor of their file."""
        line, fields = Line(channel), dict(brief.world)
        comm: Any = SeatedComm(line, "comm", fields["rank"], fields["size"])
        node: Any = SeatedComm(line, "node", fields["node_rank"], fields["node_size"])
        place = brief.nodes_place
        leaders: Any = None if place is None else SeatedComm(line, "leaders", place, len(fields["names"]))
        roll: Any = SeatedRoll(line)
        requests = Requests(Numbers(numbers, brief.numbers))
        world = cls(**fields, comm=comm, node=node, leaders=leaders, roll=roll, closers=[], requests=requests, line=line, again=brief.again,
                    neighbours=brief.node_ranks)  # fmt: skip
        world.tolerant = brief.tolerant
        worlds.opened = world
        return world

    @property
    def node_ranks(self) -> list[int]:
        """The ranks of this node; their seats' liveness is not this process' business."""
        return self.neighbours

    @property
    def center(self) -> str | None:
        """The name of the center of a worker before this one."""
        return None if self.again is None else self.again.center

    @property
    def guest(self) -> bool:
        """Whether this worker has joined a job that runs."""
        return self.again is not None and self.again.guest

    def at_abort(self, function: Callable[[], None]) -> None:
        """The seat removes what would outlive the job."""

    def abort(self, code: int = 1, reason: str = "") -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.line.call("abort", code, reason)
        time.sleep(60.0)
        os._exit(code)


class Departure(Exception):
    """A worker goes as it was asked to, and its seat goes on without it; nobody's fault."""


def again_of(world: World) -> Again | None:
    """What a worker of this world takes over; None for a rank of its own."""
    return world.again if isinstance(world, SeatedWorld) else None


def begin_together(world: World, said: dict[str, Any]) -> None:
    """Wait for all ranks to be ready to train. said: to the seat, if there is one."""
    if isinstance(world, SeatedWorld):
        world.line.call("begun", said)
    else:
        world.comm.Barrier()


def begun_at(world: World) -> float:
    """The time now, when the training begins; that of the first worker of a seat."""
    if isinstance(world, SeatedWorld):
        began: float = world.line.call("time")
        return began
    return time.time()
