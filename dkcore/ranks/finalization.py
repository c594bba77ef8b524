"""How MPI ends: in the process that joined the job, and in none that it forks."""

import atexit
import os
import sys
from types import ModuleType
from typing import Any

__all__ = ["join_mpi"]


def join_mpi() -> ModuleType:
    """mpi4py's MPI module, which joins the job as it is imported. ImportError or RuntimeError when it, or its library, is not there.

    By itself mpi4py ends MPI in whatever process exits: a forked child would sign off for its rank, or abort the job. Who has
    imported it before, or has set ``mpi4py.rc.finalize``, keeps that.
    """
    import mpi4py

    ours = "mpi4py.MPI" not in sys.modules and mpi4py.rc.finalize is None
    if ours:
        mpi4py.rc.finalize = False
    from mpi4py import MPI

    if ours:
        End(MPI)
    return MPI


class End:
    """Ends MPI when this process exits, after all functions at exit that are registered later."""

    def __init__(self, mpi: Any):  # mpi4py's types do not have _set_abort_status
        self.mpi, self.aborts, self.set_status = mpi, False, mpi._set_abort_status
        mpi._set_abort_status = self.note  # how ``python -m mpi4py`` says that the job is to be aborted, later than here
        atexit.register(self.finalize)
        os.register_at_fork(after_in_child=self.forget)

    def note(self, status: int) -> None:
        self.aborts = True
        self.set_status(status)

    def forget(self) -> None:
        """In a forked child."""
        atexit.unregister(self.finalize)
        self.mpi._set_abort_status = lambda status: None

    def finalize(self) -> None:
        if not self.aborts and self.mpi.Is_initialized() and not self.mpi.Is_finalized():
            self.mpi.Finalize()
