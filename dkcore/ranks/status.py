"""How a job and each of its ranks are: small files, by which processes that may share nothing else tell each other.

The reaper runs this file without site-packages: it needs the standard library alone.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dkcore.ranks.processes import Process, birth, machine
from dkcore.ranks.shm import mpi_segments

__all__ = ["DIRECTORY", "FOLDER", "HEARTBEAT", "LOGS", "OUTPUT", "Status", "StatusDirectory"]

FOLDER, LOGS = "status", "logs"  # in a job's directory
# In the environment of ranks:
DIRECTORY = "DKCORE_DIRECTORY"  # where the launcher reads their status
OUTPUT = "DKCORE_OUTPUT"  # "logs": each rank writes what it prints into a file of its own
HEARTBEAT = "DKCORE_HEARTBEAT"  # set: each rank touches its file, see `dkcore.ranks.heartbeat`


@dataclass
class Status:
    """The state of one rank.

    state: "running", "done" or "failed"; "lost" is what its neighbours say when it died without a word. code: its exit code,
    once it has ended. error: one line; trace: its traceback.
    birth: when the process began, in clock ticks since the machine started; with pid and machine it names one process.
    shared: what MPI has put into /dev/shm for it. time: of the last change, seconds since the epoch.
    worker: the pid of the process that trains, where the rank is a seat that runs one; else 0. guests: pids of workers that have joined.
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
    host: str = field(default_factory=lambda: os.uname().nodename)
    shared: list[str] = field(default_factory=mpi_segments)
    time: float = 0.0
    worker: int = 0
    guests: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.birth = self.birth or birth(self.pid)

    @property
    def pids(self) -> list[int]:
        """Of all processes that this rank runs, and its own."""
        return [self.pid, *([self.worker] if self.worker else []), *self.guests]

    def process(self) -> Process | None:
        """The rank's, for a launcher to watch; None when it has ended already, and where its pid means another process."""
        if self.machine != machine():
            return None
        try:
            process = Process(self.pid)
        except ProcessLookupError:
            return None
        if birth(self.pid) != self.birth:  # the pid is somebody else's by now
            process.close()
            return None
        return process

    def ended(self, error: BaseException | None) -> None:
        """How this rank ended: well (no error, or an exit with code 0), or by an error."""
        from dkcore.errors import one_line  # the reaper, which imports this file, needs neither
        from dkcore.ranks.abort import exit_code, printed

        self.code, self.state = 0, "done"
        if error is not None and (code := exit_code(error)):
            self.code, self.state = code, "failed"
            self.error, self.trace = one_line(error), printed(error)


class StatusDirectory:
    """The directory ``status/`` of a job.

    ===============  ==============================================  ==============================  ===========================
    file             what is in it                                   written by                      read by
    ===============  ==============================================  ==============================  ===========================
    mark             the launch's mark                               the launcher, or Spark's task   each rank, to see that its
                                                                                                     host has the same directory
    rank-N.json      the `Status` of rank N                          rank N; once it died, its       launcher, reaper, and
                                                                     neighbours ("lost")             Spark's task
    heartbeat-N      nothing; touched every two seconds              rank N, on a batch system's     launcher
                                                                     other hosts
    mpiexec          mpiexec's exit code, if it ended by itself      reaper                          launcher, Spark's task
    host-*           a host, and the exit code of the connection     ssh agent; reaper there         launcher
                     to it or of mpiexec's proxy there
    reaper-MARK      nothing; there until the reaper on another      that reaper                     the launcher's reaper
                     host has removed everything
    ===============  ==============================================  ==============================  ===========================

    A file is replaced as a whole: a reader sees the old one or the new one. directory: the job's.
    """

    EXIT_CODE = "mpiexec"

    def __init__(self, directory: str | os.PathLike[str]):
        self.path = Path(directory, FOLDER)

    def replace(self, name: str, text: str) -> None:
        draft = self.path / f".{name}.{os.getpid()}"
        draft.write_text(text)
        draft.replace(self.path / name)

    # ------------------------------------------------------------------ the launch

    def write_mark(self, mark: str) -> None:
        self.replace("mark", mark)

    def has_mark(self, mark: str) -> bool:
        """Whether this is the directory of the launch with that mark, rather than another one of the same name."""
        path = self.path / "mark"
        return path.exists() and path.read_text() == mark

    def write_exit_code(self, code: int) -> None:
        self.replace(self.EXIT_CODE, str(code))

    @property
    def exit_code(self) -> int | None:
        """mpiexec's, -n when signal n killed it; None while it runs, and when the reaper had to end it."""
        path = self.path / self.EXIT_CODE
        return int(path.read_text()) if path.exists() else None

    # ------------------------------------------------------------------ the ranks

    def write(self, status: Status) -> None:
        if status.state != "lost":
            status.time = time.time()
        self.path.mkdir(parents=True, exist_ok=True)
        self.replace(self.name_of(status.rank), json.dumps(asdict(status)))

    @staticmethod
    def name_of(rank: int | str) -> str:
        """The name of the file with a rank's `Status`."""
        return f"rank-{rank}.json"

    def ranks(self) -> dict[int, Status]:
        """The states of all ranks that have one, by rank."""
        statuses = [Status(**json.loads(path.read_text())) for path in self.path.glob(self.name_of("*"))]
        return {status.rank: status for status in sorted(statuses, key=lambda status: status.rank)}

    def mark_lost(self, rank: int, since: float) -> None:
        """Say for a rank that died without a word that it did. since: when it was last seen alive, seconds since the epoch."""
        status = self.ranks().get(rank)
        if status is not None and status.state == "running":
            status.state, status.time = "lost", since
            self.write(status)

    def heartbeat(self, rank: int) -> Path:
        """The file that a rank touches."""
        return self.path / f"heartbeat-{rank}"

    # ------------------------------------------------------------------ other hosts

    def write_lost_connection(self, host: str, code: int) -> None:
        """Say that the connection to a host ended, or mpiexec's proxy there, with that exit code."""
        if self.path.exists():  # the launcher may have removed it meanwhile
            self.replace(f"host-{os.getpid()}-{time.monotonic_ns()}", json.dumps({"host": host, "code": code}))

    def lost_connections(self) -> dict[str, int]:
        """The exit codes of connections that have ended, by host; of several the greatest: signals, and ssh's own 255, tell most."""
        lines = [json.loads(path.read_text()) for path in self.path.glob("host-*")]
        return {line["host"]: line["code"] for line in sorted(lines, key=lambda line: line["code"])}

    def announce_reaper(self, mark: str) -> None:
        if self.path.exists():
            (self.path / f"reaper-{mark}").touch()

    def dismiss_reaper(self, mark: str) -> None:
        (self.path / f"reaper-{mark}").unlink(missing_ok=True)

    def has_reapers(self) -> bool:
        """Whether a reaper on another host still has something to remove."""
        return any(self.path.glob("reaper-*"))
