"""One of two ranks that send each other messages: ``mpiexec -n 2 python -m bench.machine.pingpong ROUNDS LINK``. Rank 0 prints JSON."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

LOOPBACK = Path("/sys/class/net/lo/statistics/tx_bytes")
SECONDS = 0.03  # of one round
LARGE = 4 << 20


def to_and_fro(comm, buffer: np.ndarray, times: int) -> float:
    """Seconds of so many round trips."""
    comm.Barrier()
    start = time.perf_counter()
    for _ in range(times):
        if comm.rank == 0:
            comm.Send(buffer, 1)
            comm.Recv(buffer, 1)
        else:
            comm.Recv(buffer, 0)
            comm.Send(buffer, 0)
    return time.perf_counter() - start


def verify(comm, size: int) -> None:
    """What rank 0 sends comes back with one more in each byte."""
    buffer = np.arange(size).astype(np.uint8)
    if comm.rank == 0:
        comm.Send(buffer, 1)
        comm.Recv(buffer, 1)
        assert np.array_equal(buffer, (np.arange(size) + 1).astype(np.uint8)), "a message came back changed"
    else:
        comm.Recv(buffer, 0)
        buffer += 1
        comm.Send(buffer, 0)


def measure(comm, size: int, rounds: int) -> list[float]:
    """Seconds one way, one value a round."""
    verify(comm, size)
    buffer = np.zeros(size, np.uint8)
    once = to_and_fro(comm, buffer, 3) / 3
    times = comm.bcast(max(2, min(2000, int(SECONDS / once))))
    return [to_and_fro(comm, buffer, times) / times / 2 for _ in range(rounds)]


def main(rounds: int, link: str) -> None:
    comm, before = MPI.COMM_WORLD, int(LOOPBACK.read_text())
    assert comm.size == 2, f"Expected 2 ranks. Received: {comm.size}."
    latency, seconds = measure(comm, 1, rounds), measure(comm, LARGE, rounds)
    crossed = int(LOOPBACK.read_text()) - before
    assert link != "tcp" or crossed >= 2 * LARGE * rounds, f"only {crossed} bytes went over loopback: this was no TCP"
    if comm.rank == 0:
        found = {"latency_us": [1e6 * value for value in latency], "gbps": [LARGE / 1e9 / value for value in seconds], "bytes": LARGE}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
