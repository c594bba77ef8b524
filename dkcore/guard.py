"""Run one command, and take down all that came of it when it ends, or when the launcher asks or dies.

Design:
(a) The launcher starts this file as a process of its own, so that even its own ``kill -9`` is seen: the kernel sends us
    SIGTERM then (PR_SET_PDEATHSIG). Our death in turn kills mpiexec.
(b) Ranks live in sessions of their own, and killed proxies orphan them: neither process groups nor parents tell what belongs
    to the job. A mark in the environment does, which all descendants inherit.
(c) It runs without site-packages (``python -I -S``), to be there in 30 ms and to weigh little. So it imports nothing of dkcore.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["MARK", "MPI_SEGMENTS", "tear_down"]

MARK = "DKCORE_LAUNCH"
SHARED_MEMORY = "/dev/shm"
PREFIX = "dkcore-"
MPI_SEGMENTS = ("mpich_shm_", "sm_segment.", "vader_segment.")  # what MPICH and Open MPI name theirs
HEARD = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
PATIENCE = 5.0  # seconds for killed processes to be gone
PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run ``plan["command"]`` and return its exit code, 128 + n when signal n killed it."""
    plan = json.loads(sys.argv[1])
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    die_with(plan["launcher"], signal.SIGTERM)
    own = os.getpid()

    def before_command():  # safe: this process has one thread
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        die_with(own, signal.SIGKILL)

    with subprocess.Popen(plan["command"], stdin=subprocess.DEVNULL, preexec_fn=before_command) as child:
        while child.poll() is None and signal.sigwait(HEARD) == signal.SIGCHLD:
            pass
        code = child.poll()
        if code is not None:  # mpiexec ended, rather than that we end it
            Path(plan["directory"], "status", "mpiexec").write_text(str(code))
        tear_down(plan)
    if os.getppid() != plan["launcher"] and plan["temporary"]:
        shutil.rmtree(plan["directory"])
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def die_with(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent ends, if it has not ended yet."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def tear_down(plan: dict) -> None:
    """Kill every process of the job, and remove what they leave in shared memory and in its scratch folder."""
    mark = f"{MARK}={plan['mark']}".encode()
    deadline, segments = time.monotonic() + PATIENCE, named_segments(plan["directory"])
    while (mapped := kill_marked(mark)) is not None and time.monotonic() < deadline:
        segments |= mapped
        time.sleep(0.02)
    for pid in rank_pids(plan["directory"]):
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(pid)
            await_end(process)
            os.close(process)
    for name in segments:
        Path(SHARED_MEMORY, name).unlink(missing_ok=True)
    remove_orphans()
    if os.path.exists(plan["scratch"]):
        shutil.rmtree(plan["scratch"])


def kill_marked(mark: bytes) -> set[str] | None:
    """Kill every process that bears the mark in its environment.

    Returns the names of what MPI had put into shared memory for them; None when there was no such process. All are stopped
    before any is killed: proxies would end their ranks, and a rank within MPI_Init make its segments, behind our back.
    """
    processes = find_marked(mark)
    for process in processes.values():
        send(process, signal.SIGSTOP)
    segments = [name for pid in processes for name in segments_of(pid)]
    for process in processes.values():
        send(process, signal.SIGKILL)
    for process in processes.values():
        await_end(process)
        os.close(process)
    return set(segments) if processes else None


def find_marked(mark: bytes) -> dict[int, int]:
    """Pid -> pidfd of each. Looked at once more with the pidfd open: what we look at is what we kill."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        # Gone meanwhile, or of another user, which no process of the job is.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if pid != os.getpid() and bears(pid, mark):
                found[pid] = os.pidfd_open(pid)
                if not bears(pid, mark):
                    os.close(found.pop(pid))
    return found


def bears(pid: int, mark: bytes) -> bool:
    return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        signal.pidfd_send_signal(process, number)


def segments_of(pid: int) -> list[str]:
    """What MPI has put into shared memory for a process that was sent SIGSTOP: opened, mapped or both."""
    deadline = time.monotonic() + 1.0  # an uninterruptible wait in the kernel could be longer
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TtZX" and time.monotonic() < deadline:
            time.sleep(0.001)
        opened = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        names = [line.rpartition(f"{SHARED_MEMORY}/")[2] for line in opened + Path(f"/proc/{pid}/maps").read_text().splitlines()]
        return [name for name in names if name.startswith(MPI_SEGMENTS)]
    return []


def await_end(process: int) -> None:
    """Wait for a process that is dying: its environment is gone before its files are closed, and until then it holds them."""
    select.select([process], [], [], PATIENCE)


def rank_pids(directory: str) -> list[int]:
    """The ranks, as far as they said so."""
    return [json.loads(file.read_text())["pid"] for file in Path(directory, "status").glob("rank-*.json")]


def named_segments(directory: str) -> set[str]:
    """What the ranks said that MPI had put into shared memory for them: they may have died before us."""
    files = Path(directory, "status").glob("rank-*.json")
    return {os.path.basename(name) for file in files for name in json.loads(file.read_text())["shared"]}


def remove_orphans() -> None:
    """Remove dkcore's files in shared memory that no process holds: whoever uses one keeps a shared flock on it."""
    for name in os.listdir(SHARED_MEMORY):
        if name.startswith(PREFIX):
            # Another user's file, or one in use, or one that its owner has removed meanwhile.
            with contextlib.suppress(PermissionError, BlockingIOError, FileNotFoundError):
                remove_if_unheld(os.path.join(SHARED_MEMORY, name))


def remove_if_unheld(path: str) -> None:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_ino == os.stat(path).st_ino:  # and not a later one of the same name
            os.unlink(path)
    finally:
        os.close(file)


if __name__ == "__main__":
    sys.exit(main())
