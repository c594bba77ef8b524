"""What each rank tells its launcher: one small file a rank, replaced as a whole whenever its state changes."""

import json
import os
import socket
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dkcore.abort import exit_code, mpi_segments, own_frames
from dkcore.guard import machine

__all__ = ["FOLDER", "LOGS", "Status", "birth", "machine", "mark_lost", "read_lines", "read_statuses"]

FOLDER, LOGS = "status", "logs"  # in a job's directory


@dataclass
class Status:
    """The state of one rank.

    state: "running", "done" or "failed"; "lost" is what its neighbours say when it died without a word. code: its exit code,
    once it has ended. error: one line; trace: its traceback.
    birth: when the process began, in clock ticks since the machine started; with pid and machine it names one process.
    shared: what MPI has put into /dev/shm for it. time: of the last change, seconds since the epoch.
    """

    rank: int
    size: int
    state: str = "running"
    code: int | None = None
    error: str = ""
    trace: str = ""
    pid: int = field(default_factory=os.getpid)
    birth: int = 0
    machine: str = field(default_factory=lambda: machine())
    host: str = field(default_factory=socket.gethostname)
    shared: list[str] = field(default_factory=mpi_segments)
    time: float = 0.0

    def __post_init__(self):
        self.birth = self.birth or birth(self.pid)

    def write(self, directory: str | os.PathLike) -> None:
        """Into the job's directory, so that a reader sees the old state or the new one."""
        self.time = time.time() if self.state != "lost" else self.time
        folder = Path(directory, FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".rank-{self.rank}.{self.pid}"
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(folder / f"rank-{self.rank}.json")

    def ended(self, error: BaseException | None) -> None:
        """How this rank ended: well (no error, or an exit with code 0), or by an error."""
        self.code = 0 if error is None else exit_code(error)
        self.state = "failed" if self.code else "done"
        if self.code:
            summary = traceback.format_exception_only(error)[-1].strip()
            self.error = f"sys.exit({error.code!r})" if isinstance(error, SystemExit) else summary
            self.trace = "".join(traceback.format_exception(type(error), error, own_frames(error.__traceback__)))


def read_statuses(directory: str | os.PathLike) -> dict[int, Status]:
    """The states of all ranks that have told one, by rank."""
    files = Path(directory, FOLDER).glob("rank-*.json")
    statuses = [Status(**json.loads(file.read_text())) for file in files]
    return {status.rank: status for status in sorted(statuses, key=lambda status: status.rank)}


def mark_lost(directory: str | os.PathLike, rank: int, since: float) -> None:
    """Say for a rank that died without a word that it did. since: when it was last seen alive, seconds since the epoch."""
    status = read_statuses(directory).get(rank)
    if status is not None and status.state == "running":
        status.state, status.time = "lost", since
        status.write(directory)


def read_lines(directory: str | os.PathLike) -> dict[str, int]:
    """The exit codes of the lines to other hosts that have ended, by the host's name; see `dkcore.agent`."""
    told = [json.loads(file.read_text()) for file in Path(directory, FOLDER).glob("host-*")]
    return {line["host"]: line["code"] for line in sorted(told, key=lambda line: line["code"])}  # signals, and ssh's own 255, tell most


def birth(pid: int) -> int:
    """When a process began, in clock ticks since the machine started; 0 when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(text.rpartition(")")[2].split()[19])
