"""One worker of a seat: its process, and what it asks for."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dkcore.ranks.channel import Channel
from dkcore.ranks.seated import Brief

if TYPE_CHECKING:
    from dkcore.seats.calls import Calls
    from dkcore.seats.workers import Starter

__all__ = ["Hosted"]

WORDS = ("done", "failed")  # a worker's last


class Hosted:
    """A worker that was asked for. pid: once it runs, else 0. word: its last one, None if it left none.

    ask: called, by a thread of this, with the worker, the place of the call among those that are kept, its name and arguments.
    """

    def __init__(self, starter: "Starter", command: list[str], environment: dict[str, str], numbers: int, brief: Brief, calls: "Calls",
                 ask: Callable[["Hosted", int, str, tuple[Any, ...]], None]):  # fmt: skip
        self.calls, self.ask, self.pid = calls, ask, 0
        self.word: tuple[str, tuple[Any, ...]] | None = None
        own, other = socket.socketpair()
        self.channel = Channel(own)
        with other:
            starter.start(command, environment, [other.fileno(), numbers])
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
        with contextlib.suppress(OSError):
            self.channel.send(answer)

    def last_word(self, within: float) -> tuple[str, tuple[Any, ...]] | None:
        """Its last word, once its process has ended."""
        self.reader.join(within)
        return self.word
