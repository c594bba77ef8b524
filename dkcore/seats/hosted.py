"""One worker of a seat: its process, and what it asks for."""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Sized
from typing import TYPE_CHECKING, Any, Protocol

from dkcore.ranks.channel import Channel
from dkcore.ranks.seated import Brief

if TYPE_CHECKING:
    from dkcore.seats.workers import Starter

__all__ = ["Hosted"]

COMMAND = ["-m", "dkcore.seats.worker"]
WORDS = ("done", "failed", "left")  # a worker's last


class Answers(Protocol):
    """What answers a worker: `dkcore.seats.calls.Calls`, or for one that has joined `dkcore.seats.guests.GuestCalls`."""

    @property
    def kept(self) -> Sized: ...
    def keeps(self, name: str) -> bool: ...
    def answer(self, place: int, name: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]: ...


class Hosted:
    """A worker that was asked for.

    pid: once it runs, else 0. word: its last one, None if it left none. asked: calls that it made; asking: whether it waits for an answer.

    ask: called, by a thread of this, with the worker, the place of the call among those that are kept, its name and arguments.
    """

    def __init__(
        self,
        starter: "Starter",
        environment: dict[str, str],
        cpus: set[int],
        numbers: int,
        brief: Brief,
        calls: Answers,
        ask: Callable[["Hosted", int, str, tuple[Any, ...]], None],
    ):
        self.calls, self.ask, self.pid = calls, ask, 0
        self.asked, self.asking = 0, False
        self.word: tuple[str, tuple[Any, ...]] | None = None
        own, other = socket.socketpair()
        self.channel = Channel(own)
        with other:
            starter.start([sys.executable, *COMMAND], environment, cpus, [other.fileno(), numbers])
        self.channel.send(brief)
        self.reader = threading.Thread(target=self.read, name="dkcore-seat-reader", daemon=True)
        self.reader.start()

    def read(self) -> None:
        place = 0
        with contextlib.suppress(EOFError, OSError):
            while True:
                name, arguments = self.channel.receive()
                if name in WORDS:
                    self.word = name, arguments
                    return
                self.asked, self.asking = self.asked + 1, True
                if not self.calls.keeps(name):
                    self.ask(self, place, name, arguments)
                    continue
                if place < len(self.calls.kept):  # also while the main thread is within a call that this worker's own will wait for
                    self.answer(self.calls.answer(place, name, arguments))
                else:
                    self.ask(self, place, name, arguments)
                place += 1

    def answer(self, answer: tuple[bool, Any]) -> None:
        """Answer its call; it may be dead."""
        self.asking = False
        with contextlib.suppress(OSError):
            self.channel.send(answer)

    def last_word(self, within: float) -> tuple[str, tuple[Any, ...]] | None:
        """Its last word, once its process has ended."""
        self.reader.join(within)
        return self.word
