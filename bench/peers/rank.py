"""One rank of MPI, in a crew: ``python -m bench.peers.rank NAME WORKERS SUBJECT``. It sleeps between its orders."""

import ctypes
import mmap
import os
import signal
import sys
from multiprocessing.connection import Client

from bench.harness.crew import serve

__all__ = ["KEY", "main"]

KEY = "DKCORE_BENCH_KEY"  # of the environment: what tells our ranks from strangers


def main() -> None:
    """Its life."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it never survives mpiexec
    from mpi4py import MPI

    name, gate, subject = sys.argv[1:]
    index, ranks = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
    with open(gate, "r+b") as file:
        shared = (ctypes.c_int64 * ranks).from_buffer(mmap.mmap(file.fileno(), 8 * ranks))
    with Client(f"\0{name}", "AF_UNIX", authkey=bytes.fromhex(os.environ[KEY])) as connection:
        connection.send(index)
        serve(connection, shared, index, os.sched_getaffinity(0), subject, (), {})


if __name__ == "__main__":
    main()
