"""Run one command, and take down all that came of it when it ends, or when the launcher asks or dies.

Design:
(a) The launcher starts this file as a process of its own, so that even its own ``kill -9`` is seen: the kernel sends us
    SIGTERM then (PR_SET_PDEATHSIG). Our death in turn kills mpiexec.
(b) Ranks live in sessions of their own, and killed proxies orphan them: neither process groups nor parents tell what belongs
    to the job. A mark in the environment does, which all descendants inherit.
(c) On another host the same file is what ssh runs there (launch/ssh_agent.py): a reaper that knows its own host's processes by a
    mark of its own, and acts when the connection falls silent. Until it is done a file in the job's directory says so.
(d) Names are bytes: a process, its files and its arguments may be called anything. What others wrote into /proc and /dev/shm is
    not taken for text, and between the SIGSTOP and the SIGKILL of a process nothing is done that could fail.
(e) It runs by its path, without site-packages (``python -I -S``), to be there in 40 ms and to weigh little. So it imports the
    standard library, and of dkcore only what does so as well.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

if not __package__:  # run by its path: the package is found, though nothing is that is installed beside it
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from dkcore.ranks.processes import MARK, Process, kill_marked, machine
from dkcore.ranks.shm import remove_orphans, unlink_unless_foreign, unused_segments
from dkcore.ranks.status import StatusDirectory

__all__ = ["Plan", "tear_down"]

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
PATIENCE = 5.0  # seconds for killed processes to be gone, and for the reapers on other hosts
SILENCE = 60.0  # seconds without a byte from the ssh agent after which the connection is dead
PR_SET_PDEATHSIG = 1


@dataclass
class Plan:
    """What a reaper runs, and how it knows what came of it.

    command: with its arguments. directory: the job's, which has ``status/``. variable, mark: of the environment, which all
    descendants inherit. scratch: a folder that goes in any case.
    launcher: the process that started the reaper; None on another host, which is called ``host``. temporary: whether the job's
    directory goes, too, should the launcher be killed. since: what MPI has shared since then, in seconds since the epoch, may be
    the job's; None is when the reaper starts.
    """

    command: list[str]
    directory: str
    mark: str
    scratch: str
    variable: str = MARK
    launcher: int | None = None
    host: str = ""
    temporary: bool = False
    since: float | None = None

    def reaper(self) -> list[str]:
        """The command that starts a reaper with this plan."""
        return [sys.executable, "-I", "-S", __file__, json.dumps(asdict(self))]

    @property
    def status(self) -> StatusDirectory:
        return StatusDirectory(self.directory)


def main() -> int:
    """Run the plan's command and return its exit code, 128 + n when signal n killed it."""
    plan = Plan(**json.loads(sys.argv[1]))
    plan.since = plan.since or time.time()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    die_with(plan.launcher or os.getppid(), signal.SIGTERM)
    if plan.launcher is None:
        plan.status.announce_reaper(plan.mark)
    code = run(plan)
    if plan.launcher is None:
        plan.status.dismiss_reaper(plan.mark)
    elif plan.temporary and os.getppid() != plan.launcher:
        shutil.rmtree(plan.directory)
    return code if code >= 0 else 128 - code


def run(plan: Plan) -> int:
    """Run the command until it ends, or is to end, and tear down what came of it; its exit code."""
    own = os.getpid()

    def before_command() -> None:  # safe: this process has one thread
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        die_with(own, signal.SIGKILL)

    marked = {**os.environ, plan.variable: plan.mark}
    with subprocess.Popen(plan.command, stdin=subprocess.DEVNULL, preexec_fn=before_command, env=marked) as child:
        if plan.launcher is None:
            threading.Thread(target=follow_heartbeat, args=(plan,), daemon=True).start()
        while child.poll() is None and signal.sigwait(SIGNALS) == signal.SIGCHLD:
            pass
        report(plan, child.poll())
        tear_down(plan)
    return child.returncode


def report(plan: Plan, code: int | None) -> None:
    """Leave word of the command's end; code: None when it has not ended, and it is we who end it."""
    if code is None:
        return
    if plan.launcher is not None:
        plan.status.write_exit_code(code)
    elif not 0 <= code <= 128:  # the proxy was killed: the cause of all that follows
        plan.status.write_lost_connection(plan.host, code if code > 0 else 128 - code)


def follow_heartbeat(plan: Plan) -> None:
    """End the command when the ssh agent, at the other end of our standard input, is gone or silent."""
    while readable := select.select([0], [], [], SILENCE)[0]:
        if not os.read(0, 64):
            break
    if not readable:
        plan.status.write_lost_connection(plan.host, 255)  # as ssh has it
    os.kill(os.getpid(), signal.SIGTERM)


def die_with(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent ends, if it has not ended yet."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def tear_down(plan: Plan) -> None:
    """Kill every process of the job, and remove what they leave in shared memory and in its scratch folder."""
    mark = f"{plan.variable}={plan.mark}".encode()
    ranks = [status for status in plan.status.ranks().values() if status.machine == machine()]
    segments = {os.path.basename(name) for status in ranks for name in status.shared}  # they may have died before us
    deadline = time.monotonic() + PATIENCE
    while (mapped := kill_marked(mark)) is not None and time.monotonic() < deadline:
        segments |= mapped
        time.sleep(0.02)
    for pid in [pid for status in ranks for pid in status.pids]:
        # Its environment is gone before its files are closed, and until then it holds them.
        with contextlib.suppress(ProcessLookupError), Process(pid) as process:
            process.ended(within=PATIENCE)
    for name in segments | unused_segments(plan.since or 0.0):
        unlink_unless_foreign(name)
    remove_orphans()
    if os.path.exists(plan.scratch):
        shutil.rmtree(plan.scratch)
    if plan.launcher is not None:
        await_other_reapers(plan.status)


def await_other_reapers(status: StatusDirectory) -> None:
    """Wait for the reapers on other hosts: they lose their connections with mpiexec, and take their hosts' part down."""
    deadline = time.monotonic() + PATIENCE
    while status.has_reapers() and time.monotonic() < deadline:
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
