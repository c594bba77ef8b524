"""Start the ranks of a job, watch over them, and leave nothing behind however they end."""

import importlib.util
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dkcore import guard
from dkcore.errors import MissingError, expected
from dkcore.failure import explain
from dkcore.mpi import find_mpi
from dkcore.status import FOLDER, LOGS, Status, birth, machine, read_statuses
from dkcore.worker import DIRECTORY, OUTPUT

__all__ = ["launch"]

TICK = 0.2  # seconds between two calls of on_tick
GRACE = 1.5  # seconds for mpiexec to end by itself once a rank failed, so that all that the ranks said arrives
ENDING = 30.0  # seconds for mpiexec to end once all ranks have
STOPPING = 15.0  # seconds for the guard to take everything down


def launch(arguments: list[str], ranks: int, *, directory: str | os.PathLike, mpi: str = "auto",
           env: dict[str, str] | None = None, on_tick: Callable[[], None] | None = None, timeout: float | None = None,
           rendezvous: float = 60.0, output: str = "logs", temporary: bool = False) -> None:
    """Run ``python -m dkcore.worker *arguments`` in that many ranks under mpiexec, and return when all have ended well.

    arguments: a job's directory, or a script and its arguments. directory: where the ranks leave word (``status/``) and, with
    output="logs", what they print (``logs/rank-N.log``); output="inherit" passes that through to this process' own streams.
    mpi: as for `find_mpi`. env: variables on top of this process' own. on_tick: called about five times a second.
    timeout, rendezvous: seconds for the whole job (None: any), and for all ranks to have joined it. temporary: remove
    ``directory`` too, should this process be killed.

    RankError when a rank raised, exited or was killed, when mpiexec failed or a time was up: ``.rank`` (or None) and
    ``.exit_code`` say which and how. Then, and after KeyboardInterrupt, no process and no shared memory of the job is left.
    MissingError without an MPI; ValueError for a wrong number of ranks; FileNotFoundError when there is no such script.
    """
    check(arguments, ranks, output)
    found = find_mpi(mpi)
    place = Path(directory).resolve()
    for folder in (place / FOLDER, place / LOGS):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    scratch = tempfile.mkdtemp(prefix="dkcore-")
    command = [*found.command(ranks), sys.executable, "-m", "mpi4py", "-m", "dkcore.worker", *arguments]
    plan = {"launcher": os.getpid(), "mark": secrets.token_hex(8), "command": command, "scratch": scratch,
            "directory": str(place), "temporary": temporary}
    told = {DIRECTORY: str(place), OUTPUT: output, guard.MARK: plan["mark"]}
    environment = {**found.environment(dict(os.environ), scratch), **(env or {}), **told}
    Launch(plan, ranks, on_tick, timeout, rendezvous).run(importable(environment), output)


class Launch:
    """A job under way."""

    def __init__(self, plan: dict, ranks: int, on_tick: Callable[[], None] | None, timeout: float | None, rendezvous: float):
        self.plan, self.ranks, self.on_tick, self.timeout, self.rendezvous = plan, ranks, on_tick, timeout, rendezvous
        self.directory, self.machine = Path(plan["directory"]), machine()
        self.statuses: dict[int, Status] = {}
        self.processes: dict[int, int] = {}  # pidfd -> rank
        self.joined: set[int] = set()
        self.lost: tuple[float, list[int]] | None = None  # when, and which ranks died first without a word
        self.reason = ""  # why the job was ended though no rank failed
        self.bad_since = self.done_since = None

    def run(self, environment: dict[str, str], output: str) -> None:
        """Start mpiexec and stay until everything is gone; RankError if it did not end well."""
        self.began = time.monotonic()
        self.start(environment, output)
        try:
            while self.guard.poll() is None and not self.must_end():
                self.look(self.poller.poll(TICK * 1000))
                if self.on_tick is not None:
                    self.on_tick()
        finally:
            self.stop()
        self.statuses = read_statuses(self.directory)
        if error := explain(self.statuses, self.ranks, self.lost, self.reason, self.directory):
            raise error

    def start(self, environment: dict[str, str], output: str) -> None:
        command = [sys.executable, "-I", "-S", guard.__file__, json.dumps(self.plan)]
        with open(self.directory / LOGS / "mpiexec.log", "wb") as log:
            streams = {"stdout": log, "stderr": log} if output == "logs" else {}
            # A session of its own: Ctrl-C comes to us, and we end the job in order.
            self.guard = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, start_new_session=True, **streams)
        self.poller = select.poll()
        self.guard_process = os.pidfd_open(self.guard.pid)
        self.poller.register(self.guard_process, select.POLLIN)

    def look(self, ready: list[tuple[int, int]]) -> None:
        """Read what the ranks say, and see which ended without a word. The first to end are the cause."""
        ended = [self.unfollow(process) for process, _ in ready if process in self.processes]
        for rank, status in read_statuses(self.directory).items():
            if rank not in self.joined and status.machine == self.machine:
                self.joined.add(rank)
                ended += [] if self.follow(status) else [rank]
        self.statuses = read_statuses(self.directory)  # read after the rank's end: its word is the last one
        speechless = [rank for rank in ended if self.statuses[rank].state == "running"]
        if speechless and self.lost is None:
            self.lost = time.time(), speechless

    def follow(self, status: Status) -> bool:
        """Have the kernel tell when a rank ends; False when it has already."""
        try:
            process = os.pidfd_open(status.pid)
        except ProcessLookupError:
            return False
        if birth(status.pid) != status.birth:  # the pid is somebody else's by now
            os.close(process)
            return False
        self.processes[process] = status.rank
        self.poller.register(process, select.POLLIN)
        return True

    def unfollow(self, process: int) -> int:
        self.poller.unregister(process)
        os.close(process)
        return self.processes.pop(process)

    def must_end(self) -> bool:
        """Whether it is time to end the job ourselves."""
        now, states = time.monotonic(), [status.state for status in self.statuses.values()]
        if self.lost or "failed" in states:
            self.bad_since = self.bad_since or now
            return now > self.bad_since + GRACE
        if states == ["done"] * self.ranks:
            self.done_since = self.done_since or now
        sizes = {status.size for status in self.statuses.values()} - {self.ranks}
        if sizes:
            self.reason = f"a world of {sizes.pop()}: mpiexec and the MPI library that mpi4py loads do not belong together"
        elif len(states) < self.ranks and now > self.began + self.rendezvous:
            missing = sorted(set(range(self.ranks)) - set(self.statuses))
            self.reason = f"no word from ranks {missing} within {self.rendezvous:g} s"
        elif self.timeout is not None and now > self.began + self.timeout:
            self.reason = f"no end within the timeout of {self.timeout:g} s"
        elif self.done_since and now > self.done_since + ENDING:
            self.reason = f"all ranks done, but mpiexec not ended {ENDING:g} s later"
        # Ranks that are done and gone have done all; what mpiexec waits for then is a process that they left behind.
        gone = self.done_since and len(self.joined) == self.ranks and not self.processes
        return bool(self.reason) or bool(gone and now > self.done_since + GRACE)

    def stop(self) -> None:
        """Have the guard end everything that is left."""
        if self.guard.poll() is None:
            self.guard.terminate()
        try:
            self.guard.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self.guard.kill()
            self.guard.wait()
        if self.guard.returncode < 0:  # somebody killed the guard, so it could not do this
            guard.tear_down(self.plan)
        for process in [*self.processes, self.guard_process]:
            os.close(process)


def check(arguments: list[str], ranks: int, output: str) -> None:
    if not isinstance(ranks, int) or ranks < 1:
        raise ValueError(expected("1 or more ranks", repr(ranks), "It is the number of processes to start."))
    if output not in ("logs", "inherit"):
        raise ValueError(expected('output="logs" or "inherit"', repr(output), "See dkcore.launch."))
    if not arguments or not os.path.exists(arguments[0]):
        raise FileNotFoundError(expected("a job's directory or a script", arguments[:1], "Check the path."))
    if importlib.util.find_spec("mpi4py") is None:
        raise MissingError(expected("mpi4py", "none", 'Install it with: pip install "dkcore[mpich]"'))


def importable(environment: dict[str, str]) -> dict[str, str]:
    """The environment with this dkcore as the last place to find it, for a source tree that is not installed."""
    home = str(Path(__file__).resolve().parent.parent)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**environment, "PYTHONPATH": os.pathsep.join([*paths, home])}
