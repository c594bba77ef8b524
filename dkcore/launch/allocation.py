"""The allocation of a batch system, in which this process may find itself: Slurm, PBS, LSF, SGE or Cobalt."""

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["in_a_step", "is_task", "shared_folder", "spreads"]

# What batch systems tell an mpiexec of hosts beyond this one, which it then uses unasked.
VARIABLES = ("PBS_NODEFILE", "PE_HOSTFILE", "LSB_HOSTS", "LSB_MCPU_HOSTS", "COBALT_NODEFILE")


def spreads(environ: Mapping[str, str]) -> bool:
    """Whether mpiexec would use other hosts unasked, because it finds itself in the allocation of a batch system."""
    remote = "SLURM_JOB_ID" in environ and ("SLURMD_NODENAME" not in environ or nodes_of_slurm(environ) > 1)  # salloc stays at home
    return remote or any(name in environ for name in VARIABLES)


def in_a_step(environ: Mapping[str, str]) -> bool:
    """Whether srun started this process on its allocation's only node: no further srun gets any room there."""
    return "SLURM_STEP_ID" in environ and nodes_of_slurm(environ) == 1


def nodes_of_slurm(environ: Mapping[str, str]) -> int:
    nodes = environ.get("SLURM_JOB_NUM_NODES") or environ.get("SLURM_NNODES") or "1"
    return int(nodes) if nodes.isdecimal() else 1


def shared_folder(hosts: object, shared: Path | str) -> Path | None:
    """Where to make a job's directory: in ``shared`` when ranks may run on other hosts, else in the temporary folder (None)."""
    return Path(shared).resolve() if hosts or spreads(os.environ) else None


def is_task(environ: Mapping[str, str]) -> bool:
    """Whether srun started this process, and others beside it."""
    tasks = environ.get("SLURM_STEP_NUM_TASKS", "1")
    return "SLURM_PROCID" in environ and tasks.isdecimal() and int(tasks) > 1
