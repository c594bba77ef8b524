"""Whether the ranks of this node live: byte-range locks in one small file, and a thread in each rank that looks at them.

Design:
(a) Every rank holds an open-file-description lock on its own byte of the file for as long as it lives. The kernel lets go
    of it however the process ends, so a free lock tells of a death that no message could.
    A pid would not do: another container's ranks have numbers of their own.
(b) A rank that ends well writes DONE into its byte first. A free lock on a byte that is not DONE is a rank that died.
(c) MPI alone does not see this: a rank that calls ``os._exit`` or dies with its proxy leaves the others waiting for ever.
(d) The file is unlinked as soon as all have opened it (ranks/world.py), so nothing is left of it, whatever happens.
"""

import fcntl
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

from dkcore.errors import silent_death
from dkcore.ranks.numbers import Numbers
from dkcore.ranks.shm import MAGIC
from dkcore.ranks.signals import SignalHandlers

__all__ = ["Liveness"]

DONE = b"D"
INTERVAL = 0.5  # seconds between two looks
ENDING_INTERVAL = 0.02  # the same, once this rank has ended
REFLECTION = 0.2  # seconds after which a rank that saw a death, and lives, is not itself being ended with the whole job
GRACE = 1.0  # seconds for what the dead rank printed to arrive before we speak
FIRST = len(MAGIC)  # the byte of the first rank
NOTE = struct.Struct("Q?")  # behind the bytes of all ranks, of each: roll calls that it has answered, whether it leaves
FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid


class Liveness:
    """This rank's lock, and its look at those of the other ranks of the node.

    path: the node's file. ranks, pids: of all ranks of the node, in the order of their bytes. place: this rank's byte.
    signals: looked after by the same thread. abort: called from that thread, with an exit code and a sentence, when a rank died.

    Attributes:
        death_callbacks: called with each dead rank, and when it was last seen alive.
        tolerate: called with each dead rank, if the job is to go on; None if it is to end.
    """

    def __init__(self, path: str, ranks: list[int], pids: list[int], place: int, signals: SignalHandlers,
                 abort: Callable[[int, str], None]):  # fmt: skip
        self.ranks, self.pids, self.place, self.signals, self.abort = ranks, pids, place, signals, abort
        self.file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.register_at_fork(after_in_child=self.let_go)  # or a forked child would hold our lock beyond our death
        self.set_lock(fcntl.F_OFD_SETLK, place)
        self.ending = threading.Event()
        self.linger, self.looked = 0.0, time.time()
        self.death_callbacks: list[Callable[[int, float], None]] = []
        self.tolerate: Callable[[int], None] | None = None
        self.known_dead: set[int] = set()
        self.thread = threading.Thread(target=self.run, name="dkcore-liveness", daemon=True)

    def start(self) -> None:
        """Begin to look; every rank of the node must hold its lock by now."""
        if threading.current_thread() is threading.main_thread():
            self.signals.install()
        self.thread.start()

    def end(self, linger: float = 0.0) -> None:
        """This rank ended well. It may look at the others ``linger`` seconds longer, as long as they have not all ended."""
        os.pwrite(self.file, DONE, FIRST + self.place)
        self.linger = linger
        self.ending.set()
        self.signals.wake()
        self.thread.join()
        self.signals.close()
        self.let_go()

    def let_go(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def run(self) -> None:
        while not self.ending.is_set():
            self.signals.wait(INTERVAL)
            self.look()
        leave_at = time.monotonic() + self.linger
        while time.monotonic() < leave_at and not self.all_done():
            time.sleep(ENDING_INTERVAL)
            self.look()

    def look(self) -> None:
        before, self.looked = self.looked, time.time()
        if dead := self.dead():
            self.on_rank_death(dead, before)

    # ------------------------------------------------------------------ the file

    def set_lock(self, command: int, place: int) -> int:
        """Take (F_OFD_SETLK) or test (F_OFD_GETLK) the lock on one byte; the type of the lock that is in the way."""
        request = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, FIRST + place, 1, 0)
        kind: int = struct.unpack(FLOCK, fcntl.fcntl(self.file, command, request))[0]
        return kind

    def lives(self, place: int) -> bool:
        return place == self.place or self.set_lock(fcntl.F_OFD_GETLK, place) != fcntl.F_UNLCK

    def done(self, place: int) -> bool:
        return os.pread(self.file, 1, FIRST + place) == DONE

    def note(self, calls: int, leaving: bool) -> None:
        """Leave word that this rank has answered so many roll calls (ranks/roll_call.py), and whether it will answer no more."""
        os.pwrite(self.file, NOTE.pack(calls, leaving), FIRST + len(self.ranks) + NOTE.size * self.place)

    def leaving(self) -> dict[int, int]:
        """The other ranks of this node that will answer no roll call, and how many each has answered."""
        found = {}
        for place, rank in enumerate(self.ranks):
            record = os.pread(self.file, NOTE.size, FIRST + len(self.ranks) + NOTE.size * place)
            calls, leaving = NOTE.unpack(record.ljust(NOTE.size, b"\0"))
            if leaving and place != self.place:
                found[rank] = calls
        return found

    @property
    def numbers_at(self) -> int:
        """The first byte of the numbers of the node, see ranks/requests.py."""
        return FIRST + (1 + NOTE.size) * len(self.ranks)

    def number(self, place: int) -> int:
        """One of the numbers of the node; 0 before it is set."""
        return Numbers(self.file, self.numbers_at).number(place)

    def set_number(self, place: int, value: int) -> None:
        Numbers(self.file, self.numbers_at).set_number(place, value)

    def all_done(self) -> bool:
        return all(self.done(place) for place in set(range(len(self.ranks))) - self.known_dead)

    def dead(self) -> list[int]:
        # The lock is looked at before the byte: a rank writes its byte first, and lets go then.
        places = set(range(len(self.ranks))) - self.known_dead
        return [place for place in sorted(places) if not self.lives(place) and not self.done(place)]

    # ------------------------------------------------------------------ deaths

    def on_rank_death(self, dead: list[int], alive: float) -> None:
        """End the job. One survivor speaks; the next ones only if it could not. alive: when the dead were last seen so."""
        time.sleep(REFLECTION)
        for call in self.death_callbacks:
            for place in dead:
                call(self.ranks[place], alive)
        if self.tolerate is not None:
            self.go_on_without(dead, self.tolerate)
            return
        survivors = [place for place in range(len(self.ranks)) if self.lives(place)]
        time.sleep(GRACE * (1 + survivors.index(self.place)))
        self.abort(1, silent_death([(self.ranks[place], socket.gethostname(), self.pids[place]) for place in dead]))

    def go_on_without(self, dead: list[int], tolerate: Callable[[int], None]) -> None:
        """Without the dead; without this node, if its leader is among them."""
        self.known_dead.update(dead)
        print(f"dkcore: {self.names(dead)} died without a word.", file=sys.stderr, flush=True)
        if 0 in dead:
            print(f"dkcore: rank {self.ranks[self.place]} ends with the leader of its node.", file=sys.stderr, flush=True)
            for call in self.death_callbacks:
                call(self.ranks[self.place], time.time())
            os.kill(os.getpid(), signal.SIGKILL)  # an exit code would end the other nodes too
        for place in dead:
            tolerate(self.ranks[place])

    def names(self, places: list[int]) -> str:
        return " and ".join(f"rank {self.ranks[place]} (pid {self.pids[place]})" for place in places)
