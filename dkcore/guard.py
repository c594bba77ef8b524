"""Run one command, and take down all that came of it when it ends, or when the launcher asks or dies.

Design:
(a) The launcher starts this file as a process of its own, so that even its own ``kill -9`` is seen: the kernel sends us
    SIGTERM then (PR_SET_PDEATHSIG). Our death in turn kills mpiexec.
(b) Ranks live in sessions of their own, and killed proxies orphan them: neither process groups nor parents tell what belongs
    to the job. A mark in the environment does, which all descendants inherit.
(c) On another host the same file is what ssh runs there (agent.py): a guard who knows its own host's processes by a mark of its
    own, and who acts when the line to it falls silent. Until it is done a file in the job's directory says so.
(d) It runs without site-packages (``python -I -S``), to be there in 30 ms and to weigh little. So it imports nothing of dkcore.
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
import threading
import time
from pathlib import Path

__all__ = ["MARK", "MPI_SEGMENTS", "leave_word", "machine", "stop", "tear_down"]

MARK = "DKCORE_LAUNCH"
SHARED_MEMORY = "/dev/shm"
PREFIX = "dkcore-"
MPI_SEGMENTS = ("mpich_shm_", "sm_segment.", "vader_segment.")  # what MPICH and Open MPI name theirs
HEARD = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
PATIENCE = 5.0  # seconds for killed processes to be gone
SILENCE = 60.0  # seconds without a byte from the agent after which the line is dead
PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run ``plan["command"]`` and return its exit code, 128 + n when signal n killed it."""
    plan = {"since": time.time(), **json.loads(sys.argv[1])}
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    die_with(plan["launcher"] or os.getppid(), signal.SIGTERM)
    own, here, folder = os.getpid(), plan["launcher"] is not None, Path(plan["directory"], "status")
    sign = folder / f"guard-{plan['mark']}"
    if not here and folder.exists():
        sign.touch()

    def before_command():  # safe: this process has one thread
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        die_with(own, signal.SIGKILL)

    marked = {**os.environ, plan["variable"]: plan["mark"]}
    with subprocess.Popen(plan["command"], stdin=subprocess.DEVNULL, preexec_fn=before_command, env=marked) as child:
        if not here:
            threading.Thread(target=hear_beats, args=(plan,), daemon=True).start()
        while child.poll() is None and signal.sigwait(HEARD) == signal.SIGCHLD:
            pass
        code = child.poll()
        if code is not None and here:  # mpiexec ended, rather than that we end it
            (folder / "mpiexec").write_text(str(code))
        elif code is not None and not 0 <= code <= 128:  # the proxy was killed: the cause of all that follows
            leave_word(plan["directory"], plan["host"], code if code > 0 else 128 - code)
        tear_down(plan)
    sign.unlink(missing_ok=True)
    if here and os.getppid() != plan["launcher"] and plan["temporary"]:
        shutil.rmtree(plan["directory"])
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def hear_beats(plan: dict) -> None:
    """End the command when the agent, at the other end of our standard input, is gone or silent."""
    while heard := select.select([0], [], [], SILENCE)[0]:
        if not os.read(0, 64):
            break
    if not heard:
        leave_word(plan["directory"], plan["host"], 255)  # as ssh has it
    os.kill(os.getpid(), signal.SIGTERM)


def leave_word(directory: str, host: str, code: int) -> None:
    """Tell the launcher that the line to a host ended, or what it led to, with that exit code."""
    folder = Path(directory, "status")
    if folder.exists():
        draft = folder / f".host-{os.getpid()}-{time.monotonic_ns()}"
        draft.write_text(json.dumps({"host": host, "code": code}))
        draft.replace(folder / draft.name[1:])


def die_with(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent ends, if it has not ended yet."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def stop(guard: subprocess.Popen, plan: dict, patience: float) -> None:
    """For who started a guard: have it end everything, within so many seconds; if it cannot, do what it would have done."""
    if guard.poll() is None:
        guard.terminate()
    try:
        guard.wait(patience)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
    if guard.returncode < 0:  # somebody killed it, so it could not do this
        tear_down(plan)


def tear_down(plan: dict) -> None:
    """Kill every process of the job, and remove what they leave in shared memory and in its scratch folder."""
    mark = f"{plan['variable']}={plan['mark']}".encode()
    ranks, deadline = ranks_here(plan["directory"]), time.monotonic() + PATIENCE
    segments = {os.path.basename(name) for status in ranks for name in status["shared"]}  # they may have died before us
    while (mapped := kill_marked(mark)) is not None and time.monotonic() < deadline:
        segments |= mapped
        time.sleep(0.02)
    for status in ranks:
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(status["pid"])
            await_end(process)
            os.close(process)
    for name in segments | unused_segments(plan["since"]):
        Path(SHARED_MEMORY, name).unlink(missing_ok=True)
    remove_orphans()
    if os.path.exists(plan["scratch"]):
        shutil.rmtree(plan["scratch"])
    if plan["launcher"] is not None:
        await_other_guards(Path(plan["directory"], "status"))


def await_other_guards(folder: Path) -> None:
    """Wait for the guards on other hosts: they lose their lines with mpiexec, and take their hosts' part down."""
    deadline = time.monotonic() + PATIENCE
    while list(folder.glob("guard-*")) and time.monotonic() < deadline:
        time.sleep(0.02)


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
        return names_in_use(pid)
    return []


def names_in_use(pid: int | str) -> list[str]:
    """MPI's files in shared memory that a process has open or mapped."""
    opened = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    names = [line.rpartition(f"{SHARED_MEMORY}/")[2] for line in opened + Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return [name for name in names if name.startswith(MPI_SEGMENTS)]


def unused_segments(since: float) -> set[str]:
    """What MPI has put into shared memory since then, and nobody has open: of ranks that mpiexec killed within MPI_Init."""
    paths = [entry.path for entry in os.scandir(SHARED_MEMORY) if entry.name.startswith(MPI_SEGMENTS)]
    found = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if os.stat(path).st_uid == os.geteuid() and os.stat(path).st_ctime >= since:
                found.add(os.path.basename(path))
    for pid in filter(str.isdigit, os.listdir("/proc") if found else []):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or another user's
            found -= set(names_in_use(pid))
    return found


def await_end(process: int) -> None:
    """Wait for a process that is dying: its environment is gone before its files are closed, and until then it holds them."""
    select.select([process], [], [], PATIENCE)


def ranks_here(directory: str) -> list[dict]:
    """The states of the ranks that said that they are on this machine."""
    told = [json.loads(file.read_text()) for file in Path(directory, "status").glob("rank-*.json")]
    return [status for status in told if status["machine"] == machine()]


def machine() -> str:
    """Where a pid means the same process: this boot of this machine, in this namespace of pids."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")


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
