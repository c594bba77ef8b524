"""The roll call: all ranks answer it, or those who do raise an error that names who has ended instead.

Design:
(a) A collective call of MPI waits for ever for a rank that has ended well. So what all ranks must come to begins with a barrier
    that does not block, and a look at who has ended.
(b) Of the ranks of this node ranks/liveness.py knows. To the leaders of other nodes a rank that ends sends a message.
    They have a receive posted for it from the beginning, and never cancel it: UCX warns of messages that nobody expects. So
    what it writes to is MPI's, and outlives the interpreter.
(c) A rank that answered and ended soon after is no culprit, though others may not have heard its answer yet: with its end
    it tells how many calls it has answered.
"""

import time
from typing import TYPE_CHECKING

import numpy as np

from dkcore.errors import RankError, expected

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from dkcore.ranks.liveness import Liveness

__all__ = ["Roll"]

ENDED = 7  # the tag
NAPS = (0.0001, 0.005)  # seconds: the first sleep, and the longest
FLUSH = 1.0  # seconds at most for the last messages to be on their way


class Roll:
    """The calls of a world.

    comm: of all its ranks, for this alone. leaders: the first ranks of the other nodes. leads: whether this is one of its node.
    """

    def __init__(self, comm: "Comm", liveness: "Liveness", leaders: list[int], leads: bool):
        from mpi4py.MPI import Alloc_mem

        self.comm, self.liveness, self.leaders = comm, liveness, leaders
        self.elsewhere = [rank for rank in range(comm.size) if rank not in liveness.ranks] if leads else []
        self.answers = np.frombuffer(Alloc_mem(8 * max(len(self.elsewhere), 1)).cast("q"), np.int64)[: len(self.elsewhere)]
        self.expected = [comm.Irecv(self.answers[at : at + 1], rank, ENDED) for at, rank in enumerate(self.elsewhere)]
        self.number = 0  # calls that this rank has answered
        self.open = False  # whether it waits for others, or gave up

    def call(self, what: str) -> None:
        """Return when all ranks have called this as often; RankError when one has ended without. what: they have come to."""
        self.number += 1
        self.liveness.note(self.number, leaving=False)
        self.open = True
        request, nap = self.comm.Ibarrier(), NAPS[0]
        while not request.Test():
            if ended := self.ended():
                names = " and ".join(f"rank {rank}" for rank in ended)
                advice = "All ranks must call it, and equally often; one without work may call finish() at once."
                error = RankError(expected(f"every rank at {what}", f"the end of {names} without it", advice))
                error.rank = ended[0]
                raise error
            time.sleep(nap)
            nap = min(nap * 1.5, NAPS[1])
        self.open = False

    def ended(self) -> list[int]:
        """Ranks that ended and had not answered this call."""
        answers = [(rank, int(calls)) for rank, calls, end in zip(self.elsewhere, self.answers, self.expected, strict=True) if end.Test()]
        answered = dict(answers) | self.liveness.leaving()
        return sorted(rank for rank, calls in answered.items() if calls < self.number)

    def leave(self, tell: bool = True) -> None:
        """This rank ends well: it will not answer. tell: the other nodes, too."""
        self.liveness.note(self.number, leaving=True)
        if not tell:
            return
        number = np.array([self.number], np.int64)
        sent = [self.comm.Isend(number, leader, ENDED) for leader in self.leaders]
        until = time.monotonic() + FLUSH
        while sent and time.monotonic() < until:
            sent = [request for request in sent if not request.Test()]
            time.sleep(NAPS[0])
