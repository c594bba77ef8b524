"""Which MPI starts the ranks: the one from PyPI beside this interpreter, or the site's own."""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from dkcore.errors import MissingError, expected
from dkcore.launch.allocation import is_task
from dkcore.launch.launcher import LogFindings, Mpi
from dkcore.launch.mpich import Mpich
from dkcore.launch.openmpi import OpenMpi
from dkcore.launch.site import find_on_path
from dkcore.ranks.processes import MARK

__all__ = ["WITHOUT", "find_mpi", "is_rank", "read_log"]

WHEELS = {launcher.KIND: launcher for launcher in (Mpich, OpenMpi)}  # in the order of preference
WITHOUT = "A training on this machine alone needs no MPI with on_worker_loss='restart' or 'shrink'."
RANKS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")  # of these one is in the environment of every rank


def find_mpi(mpi: str = "auto") -> Mpi:
    """The MPI to launch with.

    mpi: "mpich" or "openmpi", the wheel of that name; "site", the ``mpiexec`` on PATH; a path to an mpiexec; "auto", the
    first of these three that is there. MissingError when it is not there.
    """
    if mpi == "auto":
        found = next(filter(None, map(wheel, WHEELS)), None) or find_on_path("mpiexec")
    else:
        found = wheel(mpi) if mpi in WHEELS else find_on_path("mpiexec" if mpi == "site" else mpi)
    if found is None:
        name = mpi if mpi in WHEELS else "mpich"
        advice = f'Install one with: pip install "dkcore[{name}]"; or pass mpi="site", or the path of an mpiexec. {WITHOUT}'
        raise MissingError(expected(f"an MPI to launch ranks with (mpi={mpi!r})", "none", advice))
    return found


def wheel(name: str) -> Mpi | None:
    """The MPI that the distribution ``name`` installed, if it is installed."""
    launcher = WHEELS[name]
    try:
        files = metadata.distribution(name).files or []
    except metadata.PackageNotFoundError:
        return None
    places = {file.name: str(Path(str(file.locate())).resolve()) for file in files}
    program, library = places.get(launcher.PROGRAM), places.get(launcher.LIBRARY)
    if program is None or library is None:  # a release that names its files otherwise
        return None
    return launcher(program, library, str(Path(program).parent.parent))


def is_rank(environ: Mapping[str, str]) -> bool:
    """Whether this process is one of ranks that an mpiexec or srun has started; children of a job's own ranks are not."""
    return MARK not in environ and (any(name in environ for name in RANKS) or is_task(environ))


def read_log(log: str) -> LogFindings:
    """What an mpiexec's log, of whatever kind, tells of dead ranks."""
    found = LogFindings()
    for launcher in WHEELS.values():
        one = launcher.read_log(log)
        found = LogFindings(found.processes + one.processes, found.ranks + one.ranks, found.reporters | one.reporters)
    return found
