"""Workers that are killed on two nodes: the merge is their seats', and every row still counts once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import KINDS, mpi_of
from network import Network
from seated_jobs import counting

from dkcore.report.history import notes_of

ROWS, EPOCHS = 64, 400
PATIENCE = 120.0


class Job:
    """``dkcore train`` on two nodes, as somebody calls it on the first."""

    def __init__(self, network: Network, folder: Path, kind: str, *options: object):
        self.network, self.out = network, folder / "out"
        hosts = ",".join(f"{node.address}:2" for node in network.nodes)
        words = [*counting(folder, ROWS), "--batch-size", 4, "--window", 2, "--hosts", hosts, "--mpi", mpi_of(kind), "--out", self.out]
        command = [sys.executable, "-m", "dkcore", "train", "--backend", "jax", "--quiet", *map(str, [*words, *options])]
        environment = {**os.environ, "DKCORE_LAUNCH_AGENT": str(network.agent), "PYTHONPATH": str(Path(__file__).parents[2])}
        inside = network.nodes[0].command(*command)
        self.process = subprocess.Popen(inside, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.killed: dict[int, int] = {}

    def kill(self, rank: int, exchanges: int) -> None:
        """Kill the worker of a rank, once it, and those before it, have made so many exchanges."""
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, "no worker"
            for home in self.out.glob(".dkcore-job-*"):
                path, notes = home / "status" / f"rank-{rank}.json", notes_of(home, rank)
                if path.exists() and notes.exists() and len(notes.read_text().splitlines()) >= exchanges:
                    pid = json.loads(path.read_text())["worker"]
                    if pid and pid != self.killed.get(rank):
                        self.killed[rank] = pid
                        os.kill(self.network.nodes[rank // 2].outer(pid), signal.SIGKILL)
                        return
            time.sleep(0.01)

    def await_exchanges(self, ranks: Iterable[int], exchanges: int) -> None:
        """Until the workers of these ranks have made so many."""
        deadline = time.monotonic() + PATIENCE
        left = set(ranks)
        while left:
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, f"no exchanges of {left}"
            for home in self.out.glob(".dkcore-job-*"):
                notes = {rank: notes_of(home, rank) for rank in left}
                left -= {rank for rank, path in notes.items() if path.exists() and len(path.read_text().splitlines()) >= exchanges}
            time.sleep(0.01)

    def end(self) -> dict:
        printed, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, printed
        assert self.network.gone(within=5) < 5
        return json.loads((self.out / "report.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_of_either_node_is_followed_by_another(two_nodes, tmp_path, kind):
    """That of an agent, and that of another rank; the merge goes on meanwhile, and nothing that was added is lost or added twice."""
    job = Job(two_nodes, tmp_path, kind, "--epochs", EPOCHS, "--on-worker-loss", "restart")
    job.kill(2, 5)
    job.kill(1, 10)
    report = job.end()
    assert (report["nodes"], report["worker_deaths"], report["worker_restarts"], report["workers_lost"]) == (2, 2, 2, 0)
    assert report["samples"] == ROWS * EPOCHS and report["exchanges_in_doubt"] == 0 and report["merges"] > 0
    assert np.array_equal(counts_of(tmp_path / "out"), np.full(ROWS, EPOCHS))


def test_checkpoints_of_two_nodes_while_workers_die(two_nodes, tmp_path):
    """Their agents write the parts of their nodes."""
    from dkcore.checkpoints.manifest import find

    more = ["--on-worker-loss", "restart", "--checkpoint", tmp_path / "checkpoints", "--checkpoint-every", "1 epoch"]
    job = Job(two_nodes, tmp_path, "mpich", "--epochs", EPOCHS, *more)
    job.kill(0, 20)
    job.kill(2, 40)
    report = job.end()
    assert report["worker_restarts"] == 2 and report["samples"] == ROWS * EPOCHS
    manifest = find(str(tmp_path / "checkpoints")).manifest
    assert (manifest.nodes, len(manifest.ranks), len(set(manifest.merges))) == (2, 4, 1)


def test_a_node_goes_on_merging_without_its_agent_s_worker(two_nodes, tmp_path):
    """Its agent has no worker any longer; the other worker of its node trains on, and so does the other node, and checkpoints are whole."""
    from dkcore.checkpoints.manifest import find

    more = ["--on-worker-loss", "shrink", "--checkpoint", tmp_path / "checkpoints", "--checkpoint-every", "1 epoch"]
    job = Job(two_nodes, tmp_path, "mpich", "--epochs", 4 * EPOCHS, "--no-shuffle", *more)
    job.kill(2, 5)
    report = job.end()
    assert (report["workers_lost"], report["worker_deaths"]) == (1, 1)
    assert report["samples"] + report["samples_lost"] == ROWS * 4 * EPOCHS
    manifest = find(str(tmp_path / "checkpoints")).manifest
    assert manifest.nodes == 2 and {rank["rank"] for rank in manifest.ranks} == {0, 1, 3}
    counts = counts_of(tmp_path / "out")
    assert all(np.array_equal(counts[rank::4], np.full(ROWS // 4, 4 * EPOCHS)) for rank in (0, 1, 3)) and counts[2::4].max() < 4 * EPOCHS


def counts_of(out: Path) -> np.ndarray:
    """How often each row was trained on."""
    import keras

    return keras.models.load_model(out / "model.keras").get_weights()[0].ravel()


def test_nothing_is_left_on_either_node_when_the_launcher_is_killed(two_nodes, tmp_path):
    """Seats, starters, workers, and the centers, whose names stay in shared memory as long as the job runs."""
    job = Job(two_nodes, tmp_path, "mpich", "--epochs", 100_000, "--on-worker-loss", "restart")
    job.kill(2, 5)
    job.kill(0, 20)
    launchers = [pid for pid, line in two_nodes.nodes[0].processes().items() if "-m dkcore train" in line and "nsenter" not in line]
    for pid in launchers:
        os.kill(pid, signal.SIGKILL)
    job.process.communicate(timeout=PATIENCE)
    assert launchers and two_nodes.gone(within=20) < 20
