"""A whole node of a job with seats is lost, under Open MPI with ULFM: the other one trains on, and delivers."""

import contextlib
import os
import signal

import numpy as np
from test_seats_nodes import EPOCHS, ROWS, Job, counts_of


def test_a_node_whose_processes_are_all_killed_is_left_out(two_tolerant, tmp_path):
    """Agent, seats, starters, workers: the rows of the node that is left count once an epoch still, those of the other less often."""
    options = ["--epochs", 2 * EPOCHS, "--no-shuffle", "--on-worker-loss", "restart", "--on-node-loss", "shrink"]
    job = Job(two_tolerant, tmp_path, "openmpi", *options)
    job.await_exchanges(range(4), 10)
    lost = two_tolerant.nodes[1]
    for pid, line in lost.processes().items():  # all but Open MPI's daemon, without which mpiexec ends the job
        if any(name in line for name in ("dkcore.worker", "dkcore/seats", "dkcore.seats")):
            with contextlib.suppress(ProcessLookupError):  # workers die with their starter
                os.kill(pid, signal.SIGKILL)
    report = job.end()
    assert (report["workers_lost"], report["worker_restarts"]) == (2, 0)
    counts = counts_of(tmp_path / "out")
    assert all(np.array_equal(counts[rank::4], np.full(ROWS // 4, 2 * EPOCHS)) for rank in (0, 1))
    assert all(counts[rank::4].max() < 2 * EPOCHS for rank in (2, 3))
