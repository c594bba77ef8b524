"""An mpiexec that somebody else installed: it is recognised by what it says of its version."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dkcore.errors import expected
from dkcore.launch.hosts import Host
from dkcore.launch.launcher import Mpi
from dkcore.launch.mpich import Mpich
from dkcore.launch.openmpi import OpenMpi

__all__ = ["SiteMpi", "find_on_path"]

# Of the words in ``mpiexec --version``, in small letters.
WORDS = {"open mpi": OpenMpi, "openrte": OpenMpi, "hydra": Mpich, "mpich": Mpich, "intel(r) mpi": Mpich}


@dataclass(frozen=True)
class SiteMpi(Mpi):
    """An mpiexec of a kind that we do not know: it can start ranks where it likes to, no more."""

    KIND: ClassVar[str] = "other"

    def options(self, hosts: list[Host], exported: Iterable[str]) -> list[str]:
        if hosts:
            advice = "Start the ranks with it yourself: mpiexec ... dkcore train ..., or dkcore run SCRIPT."
            raise ValueError(expected("MPICH or Open MPI, to name it hosts", self.mpiexec, advice))
        return []


def find_on_path(name: str) -> Mpi | None:
    """The mpiexec of that name or path, if it is there; its library is beside it, or known to the dynamic loader."""
    program = shutil.which(name)
    if program is None:
        return None
    version = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout.lower()
    kind = next((kind for word, kind in WORDS.items() if word in version), None)
    if kind is None:
        return SiteMpi(program)
    if "MPI4PY_LIBMPI" in os.environ or "MPI4PY_MPIABI" in os.environ:
        return kind(program)
    prefix = Path(program).resolve().parent.parent
    beside = [str(path) for folder in ("lib", "lib64") if (path := prefix / folder / kind.LIBRARY).is_file()]
    return kind(program, [*beside, kind.LIBRARY][0])
