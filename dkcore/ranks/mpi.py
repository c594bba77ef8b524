"""The MPI library of this process: whether it is there, and belongs to the mpiexec that has started us."""

import os
from types import ModuleType

from dkcore.errors import MissingError, expected
from dkcore.ranks.finalization import join_mpi

__all__ = ["check_size", "load_mpi"]

SIZES, SLURM_SIZE = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"), "SLURM_STEP_NUM_TASKS"  # how ranks are told how many they are


def load_mpi() -> ModuleType:
    """mpi4py's MPI module, which joins the job as it is imported."""
    try:
        return join_mpi()
    except (ImportError, RuntimeError) as error:  # mpi4py, or libmpi, is not there
        raise MissingError(expected("mpi4py and an MPI library", error, 'Install both: pip install "dkcore[mpich]"')) from error


def check_size(size: int) -> None:
    """MissingError when every rank became a world of its own, which is what a foreign libmpi makes of mpiexec's ranks."""
    sizes = {int(os.environ[name]) for name in SIZES if name in os.environ}
    advice = "mpiexec and the MPI library do not belong together; set MPI4PY_LIBMPI to the library of that mpiexec."
    if size == 1 and SLURM_SIZE in os.environ:  # srun says so to ranks of any MPI, and to those of none
        sizes = sizes or {int(os.environ[SLURM_SIZE])}
        advice = f"Pass srun --mpi=pmi2 for MPICH, --mpi=pmix for Open MPI; for worlds of one, unset {SLURM_SIZE}."
    if sizes and size not in sizes:
        received = f"{size} in {load_mpi().Get_library_version().splitlines()[0]}"
        raise MissingError(expected(f"a job of {max(sizes)} ranks, as mpiexec says", received, advice))
