"""The leaders of the other nodes, as the leader of one sees them: patient waits, and who has fallen silent.

Design:
(a) Nothing here blocks inside MPI. Its waits spin, and the core is the workers'; and a cut link would hold them for ever.
(b) Each leader says every second or so that it is there. Who is not heard for the timeout is gone, however long a round may
    take: a node may be slow, for its workers may be.
(c) A leader that is through says goodbye, perhaps while others still wait for the last of what it sent before: a goodbye is
    kept whenever it arrives, and who has said it is expected to say nothing more.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from dkcore.errors import MergeError, expected

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

__all__ = ["Peers"]

ALIVE, GOODBYE = 5, b"\2"  # the tag of a sign of life; the last one
TEND = 0.05  # seconds between two looks at signs of life
SPIN = 0.0005  # seconds of asking without sleeping: what a message within the rack takes
NAPS = (0.00005, 0.0002)  # seconds: the first sleep, and the longest


def test_all_of(others: list[int]) -> "Callable[[list[Request]], bool]":
    """What tells whether requests to and from others have completed. A node that is alone has none, and perhaps no MPI."""
    if not others:
        return all
    from mpi4py.MPI import Request

    return Request.Testall


class Peers:
    """The communicator of the leaders, with patience.

    comm: of all leaders, for this alone. names: of their nodes, for messages. timeout: seconds that one may be silent.
    MPI errors of a lost process are raised as mpi4py's Exception.
    """

    def __init__(self, comm: "Comm", names: list[str], timeout: float):
        self.comm, self.names, self.timeout = comm, names, timeout
        self.rank, self.size = comm.rank, comm.size
        self.others = [peer for peer in range(self.size) if peer != self.rank]
        self.test_all = test_all_of(self.others)
        self.beat_every = min(1.0, timeout / 5)
        self.inbox = {peer: bytearray(1) for peer in self.others}
        self.alive = {peer: comm.Irecv(self.inbox[peer], peer, ALIVE) for peer in self.others}
        self.sent: list[Request] = []
        self.talking = list(self.others)  # who has not said goodbye
        now = time.monotonic()
        self.heard = dict.fromkeys(self.others, now)
        self.beaten = self.tended = now - self.beat_every

    def poll_heartbeats(self) -> None:
        """Give and hear signs of life; MergeError when a node has been silent too long. Cheap when called often."""
        now = time.monotonic()
        if now < self.tended + TEND:
            return
        if now > self.tended + self.timeout / 2:  # this thread stood still itself, and could hear nobody
            self.heard = {peer: max(heard, now - self.timeout / 2) for peer, heard in self.heard.items()}
        self.tended = now
        if now >= self.beaten + self.beat_every:
            self.beaten = now
            self.sent = [request for request in self.sent if not request.Test()]
            self.sent += [self.comm.Isend(b"\1", peer, ALIVE) for peer in self.others]
        self.hear(now)
        silent = [peer for peer in self.talking if now > self.heard[peer] + self.timeout]
        if silent:
            names = " and ".join(self.names[peer] for peer in silent)
            advice = "Is its host up, and the link? Lengthen merge_timeout if it only is slow."
            raise MergeError(expected(f"a sign of life within {self.timeout:g} s", f"none from {names}", advice))

    def hear(self, now: float) -> None:
        """Take the signs of life that have arrived."""
        for peer in list(self.talking):
            while peer in self.talking and self.alive[peer].Test():
                self.heard[peer] = now
                if self.inbox[peer] == GOODBYE:
                    self.talking.remove(peer)
                else:
                    self.alive[peer] = self.comm.Irecv(self.inbox[peer], peer, ALIVE)

    def wait(self, requests: "list[Request]") -> None:
        """Until all have completed."""
        spin_until, nap = time.monotonic() + SPIN, NAPS[0]
        while not self.test_all(requests):
            if time.monotonic() >= spin_until:
                self.poll_heartbeats()
                time.sleep(nap)
                nap = min(nap * 1.5, NAPS[1])

    def close(self, requests: "list[Request]") -> None:
        """Nothing more is expected, neither signs of life nor what ``requests`` wait for: free the communicator. All call it.

        Each says goodbye first, and hears all others': MPI may give the communicator's number to somebody else, who would
        receive what is still under way.
        """
        for request in requests:
            request.Cancel()
            request.Wait()
        self.sent += [self.comm.Isend(GOODBYE, peer, ALIVE) for peer in self.others]
        self.heard = dict.fromkeys(self.others, now := time.monotonic())
        while any(now < self.heard[peer] + self.timeout for peer in self.talking):  # who has not closed yet gives signs of life
            self.hear(now)
            time.sleep(NAPS[1])
            now = time.monotonic()
        for peer in self.talking:
            self.alive[peer].Cancel()
        while not self.test_all(self.sent) and time.monotonic() < now + self.timeout:
            time.sleep(NAPS[1])
        if not self.talking:
            self.comm.Free()
