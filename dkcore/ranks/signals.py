"""SIGTERM and SIGINT end a rank even while its main thread waits inside MPI, where Python's signal handlers do not run.

Design:
(a) The kernel's signal makes Python write its number into a wakeup pipe at once. A thread reads it (ranks/liveness.py), and ends
    the job if the main thread has not run the handler a moment later.
(b) A handler that a script sets, before or after, is the script's: it says what the signal means, and when.
(c) A forked child is no rank: it gives the handlers and the pipe up. Signals are blocked meanwhile, so that none reaches the
    child before that.
"""

import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

__all__ = ["SignalHandlers", "Terminated"]

GRACE = 1.0  # seconds for the main thread to run the handler
Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None  # as `signal.signal` takes it


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: unwinds the main thread as Ctrl-C does."""


class SignalHandlers:
    """Those of one rank. abort: called with an exit code and a sentence when the main thread does not take a signal."""

    def __init__(self, rank: int, abort: Callable[[int, str], None]):
        self.rank, self.abort = rank, abort
        self.handled = threading.Event()
        self.previous: dict[int, Handler] = {}  # the handlers that ours replace, by the signal's number
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # the wakeup pipe
        self.closed = False
        self.blocked = threading.local()  # the signals that a thread that forks had blocked
        os.register_at_fork(before=self.block, after_in_parent=self.unblock, after_in_child=self.forget)

    def install(self) -> None:
        """From the main thread alone, as Python asks for it."""
        for number, default in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
            if signal.getsignal(number) is default:
                self.previous[number] = signal.signal(number, self.handle)
        other = signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        if other != -1:  # somebody, asyncio for one, uses it already
            signal.set_wakeup_fd(other)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        self.handled.set()
        raise Terminated("SIGTERM") if number == signal.SIGTERM else KeyboardInterrupt

    def wait(self, seconds: float) -> None:
        """Sleep, or until `wake`; end the job when a signal comes meanwhile that the main thread does not take."""
        if select.select([self.reader], [], [], seconds)[0]:
            self.check(os.read(self.reader, 64))

    def check(self, numbers: bytes) -> None:
        for number in self.previous.keys() & set(numbers):
            if signal.getsignal(number) == self.handle and not self.handled.wait(GRACE):
                name = signal.Signals(number).name
                where = f"rank {self.rank} on {os.uname().nodename}"
                self.abort(128 + number, f"{where}: {name} arrived while it waited inside a call.")

    def wake(self) -> None:
        """Have `wait` return in its thread."""
        os.write(self.writer, b"\0")

    def close(self) -> None:
        """Put back what was replaced."""
        if self.closed:
            return
        self.closed = True
        for number, handler in self.previous.items():
            if signal.getsignal(number) == self.handle:
                signal.signal(number, handler)
        if self.previous:
            other = signal.set_wakeup_fd(-1)
            if other != self.writer:
                signal.set_wakeup_fd(other)
        os.close(self.reader)
        os.close(self.writer)

    # ------------------------------------------------------------------ forks

    def block(self) -> None:
        self.blocked.before = signal.pthread_sigmask(signal.SIG_BLOCK, self.previous)

    def unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked.before)

    def forget(self) -> None:
        """In a forked child."""
        self.close()
        self.unblock()
