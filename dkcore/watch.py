"""Whether the ranks of this node live: byte-range locks in one small file, and a thread in each rank that looks at them.

Design:
(a) Every rank holds an open-file-description lock on its own byte of the file for as long as it lives. The kernel lets go
    of it however the process ends, so a free lock tells of a death that no message could.
(b) A rank that ends well writes DONE into its byte first. A free lock on a byte that is not DONE is a rank that died.
(c) MPI alone does not see this: a rank that calls ``os._exit`` or dies with its proxy leaves the others waiting for ever.
(d) The file is unlinked as soon as all have opened it (nodes.py), so nothing is left of it, whatever happens.
"""

import fcntl
import os
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

__all__ = ["Terminated", "Watch"]

DONE = b"D"
INTERVAL = 0.5  # seconds between two looks
ENDING_INTERVAL = 0.02  # the same, once this rank has ended
REFLECTION = 0.2  # seconds after which a rank that saw a death, and lives, is not itself being ended with the whole job
GRACE = 1.0  # seconds for what the dead rank printed to arrive before we speak, or for the main thread to hear a signal
FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: unwinds the main thread as Ctrl-C does."""


class Watch:
    """This rank's sign of life, and its eyes on the other ranks of the node.

    path: the node's file. ranks, pids: of all ranks of the node, in the order of their bytes. place: this rank's byte.
    abort: called with an exit code and a sentence, from the watching thread, when a rank died or a signal went unheard.
    """

    def __init__(self, path: str, ranks: list[int], pids: list[int], place: int, abort: Callable[[int, str], None]):
        self.ranks, self.pids, self.place, self.abort = ranks, pids, place, abort
        self.file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        # A forked child would hold our lock beyond our death.
        os.register_at_fork(after_in_child=self.let_go)
        self.set_lock(fcntl.F_OFD_SETLK, place)
        self.ending, self.heard = threading.Event(), threading.Event()
        self.bell, self.ringer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.handlers: dict[int, object] = {}
        self.linger, self.looked = 0.0, time.time()
        self.tellers: list[Callable[[int, float], None]] = []  # called with each dead rank, and when it was last seen alive
        self.tolerate: Callable[[int], None] | None = None  # called with each dead rank, if the job is to go on
        self.mourned: set[int] = set()
        self.thread = threading.Thread(target=self.run, name="dkcore-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch; every rank of the node must hold its lock by now."""
        if threading.current_thread() is threading.main_thread():
            self.listen()
        self.thread.start()

    def end(self, linger: float = 0.0) -> None:
        """This rank ended well. It may watch the others ``linger`` seconds longer, as long as they have not all ended."""
        os.pwrite(self.file, DONE, self.place)
        self.linger = linger
        self.ending.set()
        os.write(self.ringer, b"\0")
        self.thread.join()
        self.stop_listening()
        self.let_go()

    def let_go(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    # ------------------------------------------------------------------ the other ranks

    def run(self) -> None:
        while not self.ending.is_set():
            if select.select([self.bell], [], [], INTERVAL)[0]:
                self.answer(os.read(self.bell, 64))
            self.look()
        leave_at = time.monotonic() + self.linger
        while time.monotonic() < leave_at and not self.all_done():
            time.sleep(ENDING_INTERVAL)
            self.look()

    def look(self) -> None:
        before, self.looked = self.looked, time.time()
        if dead := self.dead():
            self.mourn(dead, before)

    def set_lock(self, command: int, place: int) -> int:
        """Take (F_OFD_SETLK) or test (F_OFD_GETLK) the lock on one byte; the type of the lock that is in the way."""
        request = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
        return struct.unpack(FLOCK, fcntl.fcntl(self.file, command, request))[0]

    def lives(self, place: int) -> bool:
        return place == self.place or self.set_lock(fcntl.F_OFD_GETLK, place) != fcntl.F_UNLCK

    def done(self, place: int) -> bool:
        return os.pread(self.file, 1, place) == DONE

    def all_done(self) -> bool:
        return all(self.done(place) for place in set(range(len(self.ranks))) - self.mourned)

    def dead(self) -> list[int]:
        # The lock is looked at before the byte: a rank writes its byte first, and lets go then.
        places = set(range(len(self.ranks))) - self.mourned
        return [place for place in sorted(places) if not self.lives(place) and not self.done(place)]

    def mourn(self, dead: list[int], alive: float) -> None:
        """End the job. One survivor speaks; the next ones only if it could not. alive: when the dead were last seen so."""
        time.sleep(REFLECTION)
        for tell in self.tellers:
            for place in dead:
                tell(self.ranks[place], alive)
        if self.tolerate is not None:
            self.go_on(dead)
            return
        survivors = [place for place in range(len(self.ranks)) if self.lives(place)]
        time.sleep(GRACE * (1 + survivors.index(self.place)))
        names = " and ".join(f"rank {self.ranks[place]} (pid {self.pids[place]})" for place in dead)
        self.abort(1, f"{names} died without a word: killed, out of memory, or os._exit. The job ends.")

    def go_on(self, dead: list[int]) -> None:
        """Without the dead; without this node, if its leader is among them."""
        self.mourned.update(dead)
        names = " and ".join(f"rank {self.ranks[place]} (pid {self.pids[place]})" for place in dead)
        print(f"dkcore: {names} died without a word.", file=sys.stderr, flush=True)
        if 0 in dead:
            print(f"dkcore: rank {self.ranks[self.place]} ends with the leader of its node.", file=sys.stderr, flush=True)
            for tell in self.tellers:
                tell(self.ranks[self.place], time.time())
            os.kill(os.getpid(), signal.SIGKILL)  # an exit code would end the other nodes too
        for place in dead:
            self.tolerate(self.ranks[place])

    # ------------------------------------------------------------------ signals

    def listen(self) -> None:
        """Let SIGTERM and SIGINT reach this rank even while its main thread waits inside MPI, where Python hears nothing."""
        for number, default in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
            if signal.getsignal(number) is default:
                self.handlers[number] = signal.signal(number, self.hear)
        other = signal.set_wakeup_fd(self.ringer, warn_on_full_buffer=False)
        if other != -1:  # somebody, asyncio for one, listens already
            signal.set_wakeup_fd(other)

    def stop_listening(self) -> None:
        for number, handler in self.handlers.items():
            if signal.getsignal(number) == self.hear:
                signal.signal(number, handler)
        if self.handlers:
            other = signal.set_wakeup_fd(-1)
            if other != self.ringer:
                signal.set_wakeup_fd(other)
        os.close(self.bell)
        os.close(self.ringer)

    def hear(self, number: int, _frame: FrameType | None) -> None:
        self.heard.set()
        raise Terminated("SIGTERM") if number == signal.SIGTERM else KeyboardInterrupt

    def answer(self, numbers: bytes) -> None:
        """End the job when a signal rang the bell and the main thread does not hear it."""
        for number in self.handlers.keys() & set(numbers):
            if not self.heard.wait(GRACE):
                name, rank = signal.Signals(number).name, self.ranks[self.place]
                self.abort(128 + number, f"{name} arrived while rank {rank} waited inside a call. The job ends.")
