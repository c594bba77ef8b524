"""A crew: real processes that do the work to be measured, each on a core of its own, started together by a gate.

The parent sleeps while they work. Each runs a *subject*: an object made in the process by a function that is named by
a string ("bench.subjects.flat:Flat"), so that a subject can set up the environment before it imports a framework.
"""

import ctypes
import importlib
import multiprocessing
import os
import time
import traceback
from multiprocessing.connection import wait
from typing import Any

__all__ = ["Crew"]

PATIENCE = 600.0  # seconds for one answer; a crew that is slower hangs
MEETING = 120.0  # seconds that a worker waits for the others at the gate


class Crew:
    """``workers`` processes. A context manager; its processes end with it, and with their parent.

    subject: "module:name" of a callable that is called as ``name(index, workers, *arguments)`` in each process.
    environment: variables set before the subject's module is imported. cores: what each worker keeps to: "one" of its own, a
    fair "share", or "all".
    """

    def __init__(self, workers: int, subject: str, *arguments, environment: dict[str, str] | None = None, cores: str = "one"):
        context = multiprocessing.get_context("spawn")
        # Kept, because multiprocessing would give its memory to the next crew's gate.
        self.gate = context.RawArray(ctypes.c_int64, workers)
        self.members = []
        for index in range(workers):
            ours, theirs = context.Pipe()
            options = (theirs, self.gate, index, places(cores, index, workers), subject, arguments, environment or {})
            process = context.Process(target=serve, args=options, daemon=True)
            process.start()
            theirs.close()
            self.members.append((process, ours))
        try:
            self.answers()
        except BaseException:
            self.close()
            raise

    def answer(self, process, connection) -> Any:
        """What a worker says next; the error that it raised."""
        if not connection.poll(PATIENCE):
            raise TimeoutError(f"Expected an answer of worker process {process.pid}. Received: none in {PATIENCE:g} s.")
        try:
            answer, error = connection.recv()
        except EOFError:
            process.join(1.0)
            raise RuntimeError(f"Worker process {process.pid} ended with exit code {process.exitcode}.") from None
        if error is not None:
            raise error
        return answer

    def answers(self) -> list[Any]:
        """One answer of each worker; an error as soon as one has it, for others may wait for that one."""
        found, processes = {}, {connection: process for process, connection in self.members}
        while waited := [connection for connection in processes if connection not in found]:
            for connection in wait(waited, PATIENCE) or waited[:1]:
                found[connection] = self.answer(processes[connection], connection)
        return [found[connection] for connection in processes]

    def ask(self, method: str, *arguments) -> list[Any]:
        """What ``subject.method(*arguments)`` returns in each worker; one after another, so that nobody disturbs."""
        found = []
        for process, connection in self.members:
            connection.send((method, arguments, 0, False))
            found.append(self.answer(process, connection))
        return found

    def together(self, method: str, *arguments) -> list[Any]:
        """The same of all workers at once, from the gate: for what they do with each other, and for times that they take themselves."""
        for _, connection in self.members:
            connection.send((method, arguments, 0, True))
        return self.answers()

    def seconds(self, method: str, repeat: int = 1) -> float:
        """All workers at once, from the gate: seconds for one call of ``subject.method()``, of the slowest worker."""
        for _, connection in self.members:
            connection.send((method, (), repeat, True))
        return max(self.answers()) / repeat

    def close(self) -> None:
        """End the processes."""
        for _, connection in self.members:
            connection.close()  # a worker that waits for orders ends by itself
        for process, _ in self.members:
            process.join(5.0)
            if process.is_alive():
                process.kill()
                process.join()
        self.members = []

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *error) -> None:
        self.close()


def places(cores: str, index: int, workers: int) -> set[int]:
    """The processors of one worker; see `Crew`."""
    have = sorted(os.sched_getaffinity(0))
    if cores == "one" or len(have) < workers:
        return {have[index % len(have)]}
    return set(have) if cores == "all" else set(have[index * len(have) // workers : (index + 1) * len(have) // workers])


def serve(connection, gate, index, cores, subject, arguments, environment) -> None:
    """The life of a worker: make the subject, then obey until the parent lets go of the pipe."""
    os.environ.update(environment)
    os.sched_setaffinity(0, cores)
    try:
        module, name = subject.split(":")
        made = getattr(importlib.import_module(module), name)(index, len(gate), *arguments)
        connection.send((None, None))
    except BaseException as error:
        connection.send((None, told(error)))
        return
    while True:
        try:
            method, inputs, repeat, gated = connection.recv()
        except (EOFError, ConnectionResetError):
            break
        try:
            if gated:
                meet(gate, index)
            connection.send((obey(getattr(made, method), inputs, repeat), None))
        except Exception as error:
            connection.send((None, told(error)))
    if hasattr(made, "close"):
        made.close()


def obey(function, inputs, repeat) -> Any:
    """Call it once with its arguments, or ``repeat`` times against the clock."""
    if not repeat:
        return function(*inputs)
    start = time.perf_counter()
    for _ in range(repeat):
        function()
    return time.perf_counter() - start


def meet(gate, index) -> None:
    """Wait for the others, awake: who sleeps starts late."""
    gate[index] += 1
    deadline = time.monotonic() + MEETING
    while min(gate) < gate[index]:
        os.sched_yield()
        if time.monotonic() > deadline:
            raise TimeoutError(f"Expected all {len(gate)} workers at the gate. Received: {list(gate)}.")


def told(error: BaseException) -> Exception:
    """The error with its traceback as text, of a kind that travels and that pytest understands."""
    kind = AssertionError if isinstance(error, AssertionError) else RuntimeError
    return kind(f"{error}\n{''.join(traceback.format_exception(error))}")
