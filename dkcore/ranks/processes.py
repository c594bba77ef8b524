"""Processes of this machine: told apart for sure by pidfds, and found by a mark in their environment.

The reaper runs this file without site-packages: it needs the standard library alone.
"""

import contextlib
import os
import select
import signal
import time
from pathlib import Path

from dkcore.ranks.shm import names_in_use

__all__ = ["MARK", "REMOTE_MARK", "Process", "birth", "kill_marked", "machine"]

# The variables that bear a launch's mark: of all that comes of it here, and on other hosts.
MARK = "DKCORE_LAUNCH"
REMOTE_MARK = "DKCORE_REMOTE"

DYING = 5.0  # seconds for a killed process to be gone
EXEC = 0.1  # seconds for a process to get through an exec; few have no environment at all, and are waited for in vain
STOPPING = 1.0  # seconds for a process to take SIGSTOP; an uninterruptible wait in the kernel could be longer


class Process:
    """One process, by its pidfd: what was looked at is what is signalled, whoever gets its pid later.

    For select and poll it is readable once the process has ended. A context manager. ProcessLookupError when there is no such
    process, and OSError where the kernel or a sandbox gives no pidfds.
    """

    def __init__(self, pid: int):
        self.pid = pid
        self.file = os.pidfd_open(pid)

    def fileno(self) -> int:
        return self.file

    def number(self) -> int:
        """Its pid as /proc has it, which may be mounted for another namespace of pids than ours."""
        lines = Path(f"/proc/self/fdinfo/{self.file}").read_bytes().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(b"Pid:"))

    def send(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.file, number)

    def ended(self, within: float = 0.0) -> bool:
        """Whether it has ended, or does within so many seconds."""
        poller = select.poll()
        poller.register(self, select.POLLIN)
        return bool(poller.poll(within * 1000))

    def close(self) -> None:
        os.close(self.file)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def birth(pid: int) -> int:
    """When a process began, in clock ticks since the machine started; 0 when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()  # a program may be called anything
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(text.rpartition(b")")[2].split()[19])


def machine() -> str:
    """Where a pid means the same process: this boot of this machine, in this namespace of pids."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")


# ---------------------------------------------------------------------- the processes of a job


def kill_marked(mark: bytes) -> set[str] | None:
    """Kill every process that bears the mark in its environment, and wait until they are gone.

    Returns the names of what MPI had put into shared memory for them; None when there was no such process. All are stopped
    before any is killed: proxies would end their ranks, and a rank within MPI_Init make its segments, behind our back.
    """
    segments: set[str] = set()
    with contextlib.ExitStack() as stack:
        processes = find_marked(mark, stack)
        try:
            for process in processes:
                process.send(signal.SIGSTOP)
            for process in processes:
                segments |= segments_of(process.pid)
        finally:  # whatever happens here, nobody stays stopped for ever
            for process in processes:
                process.send(signal.SIGKILL)
        for process in processes:
            process.ended(within=DYING)
        return segments if processes else None


def find_marked(mark: bytes, stack: contextlib.ExitStack) -> list[Process]:
    """All but this one. Looked at once more with the pidfd open: what we look at is what we kill. stack: closes them."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        # Gone meanwhile, or of another user, which no process of the job is.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if pid != os.getpid() and bears(pid, mark):
                process = stack.enter_context(Process(pid))
                if process.number() == pid and bears(pid, mark):
                    found.append(process)
    return found


def bears(pid: int, mark: bytes) -> bool:
    """Whether the mark is in its environment. In the midst of an exec a process has none yet, though it has memory: its end is awaited."""
    environment, memory = Path(f"/proc/{pid}/environ"), Path(f"/proc/{pid}/maps")
    deadline = time.monotonic() + EXEC
    while not (found := environment.read_bytes()) and memory.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.001)
    return mark in found.split(b"\0")


def segments_of(pid: int) -> set[str]:
    """What MPI has put into shared memory for a process that was sent SIGSTOP: opened, mapped or both."""
    deadline = time.monotonic() + STOPPING
    with contextlib.suppress(OSError):  # it is gone
        while Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in b"TtZX" and time.monotonic() < deadline:
            time.sleep(0.001)
        return names_in_use(pid)
    return set()
