"""A communicator whose ranks are threads of one process: what seats use of mpi4py's, without MPI.

Design:
(a) The n-th collective call of each rank on a communicator is one *meeting*. A rank leaves its part there and waits until all parts are
    there. The meeting belongs to those who are in it, so nothing has to be cleared up.
(b) Objects are pickled, as mpi4py does: ranks share none of them.
(c) What mpi4py says of each call is the law: `tests/ranks/test_thread_comm.py` runs the same program over both.
(d) A rank that has ended answers no roll call. The others raise an error that names it, as in ranks/roll_call.py.
"""

import collections
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dkcore.errors import RankError, expected

__all__ = ["Meeting", "ThreadComm", "ThreadRoll", "communicators"]


class Meeting:
    """One collective call. parts: what the ranks left, by rank. onward: the ranks of a new communicator, for `ThreadComm.Dup`."""

    def __init__(self, ranks: "Ranks"):
        self.ranks = ranks
        self.parts: dict[int, Any] = {}
        self.onward: list[ThreadComm] = []

    def Test(self) -> bool:
        """Whether all ranks have come, as of mpi4py's request."""
        return len(self.parts) == self.ranks.size

    def wait(self) -> "Meeting":
        """Until all ranks have come."""
        with self.ranks.changed:
            self.ranks.changed.wait_for(self.Test)
        return self


@dataclass
class Ranks:
    """What the threads of a communicator share. open: meetings that not all have come to, by number. mail: by source, target and tag."""

    size: int
    changed: threading.Condition = field(default_factory=threading.Condition)
    open: dict[int, Meeting] = field(default_factory=dict)
    mail: dict[tuple[int, int, int], collections.deque[bytes]] = field(default_factory=lambda: collections.defaultdict(collections.deque))
    ended: set[int] = field(default_factory=set)


class ThreadComm:
    """One rank of it. Each rank calls its own, from one thread at a time."""

    def __init__(self, ranks: Ranks, rank: int):
        self.ranks, self.rank, self.size = ranks, rank, ranks.size
        self.calls = 0

    def come(self, part: Any, make: Callable[[], "list[ThreadComm]"] = list) -> Meeting:
        """To the next meeting, with this rank's part. make: called by the first who comes."""
        with self.ranks.changed:
            if (meeting := self.ranks.open.get(self.calls)) is None:
                meeting = self.ranks.open[self.calls] = Meeting(self.ranks)
                meeting.onward = make()
            meeting.parts[self.rank] = part
            if meeting.Test():
                del self.ranks.open[self.calls]
                self.ranks.changed.notify_all()
            self.calls += 1
        return meeting

    def Barrier(self) -> None:
        self.come(None).wait()

    def Ibarrier(self) -> Meeting:
        return self.come(None)

    def allgather(self, value: Any) -> list[Any]:
        parts = self.come(pickle.dumps(value)).wait().parts
        return [pickle.loads(parts[rank]) for rank in range(self.size)]

    def bcast(self, value: Any, root: int = 0) -> Any:
        part = pickle.dumps(value) if self.rank == root else None
        return pickle.loads(self.come(part).wait().parts[root])

    def Bcast(self, buffer: Any, root: int = 0) -> None:
        """Into the buffers of all ranks, of as many bytes; ValueError where one has others."""
        mine = memoryview(buffer).cast("B")
        sent = self.come(bytes(mine) if self.rank == root else None).wait().parts[root]
        if len(sent) != len(mine):
            raise ValueError(expected(f"a buffer of {len(sent)} bytes, as rank {root} has", f"{len(mine)}", "They must be alike."))
        if self.rank != root:
            mine[:] = sent

    def send(self, value: Any, dest: int, tag: int = 0) -> None:
        """Does not wait for the receiver."""
        with self.ranks.changed:
            self.ranks.mail[self.rank, dest, tag].append(pickle.dumps(value))
            self.ranks.changed.notify_all()

    def recv(self, source: int, tag: int = 0) -> Any:
        """The next object from that rank with that tag; those of one sender come in their order."""
        with self.ranks.changed:
            box = self.ranks.mail[source, self.rank, tag]
            self.ranks.changed.wait_for(lambda: bool(box))
            return pickle.loads(box.popleft())

    def Dup(self) -> "ThreadComm":
        """A communicator of the same ranks, whose calls are apart from those of this one."""
        return self.come(None, lambda: communicators(self.size)).wait().onward[self.rank]

    def Free(self) -> None:
        """It goes with the last who holds it."""


def communicators(size: int) -> list[ThreadComm]:
    """Of a new communicator, one for each of its ranks."""
    ranks = Ranks(size)
    return [ThreadComm(ranks, rank) for rank in range(size)]


class ThreadRoll:
    """The roll calls of such ranks, as `dkcore.ranks.roll_call.Roll`. comm: for this alone."""

    def __init__(self, comm: ThreadComm):
        self.comm = comm
        self.open = False

    def call(self, what: str) -> None:
        """Return when all ranks have called this as often; RankError when one has ended without. what: they have come to."""
        ranks, self.open = self.comm.ranks, True
        meeting = self.comm.come(None)
        with ranks.changed:
            ranks.changed.wait_for(lambda: meeting.Test() or ranks.ended - set(meeting.parts))
            ended = sorted(ranks.ended - set(meeting.parts))
        if not meeting.Test():
            names = " and ".join(f"rank {rank}" for rank in ended)
            advice = "All ranks must call it, and equally often; one without work may call finish() at once."
            error = RankError(expected(f"every rank at {what}", f"the end of {names} without it", advice))
            error.rank = ended[0]
            raise error
        self.open = False

    def leave(self, tell: bool = True) -> None:
        """This rank ends well: it will not answer."""
        with self.comm.ranks.changed:
            self.comm.ranks.ended.add(self.comm.rank)
            self.comm.ranks.changed.notify_all()
