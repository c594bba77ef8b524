"""Real digits on one node and on several: the same job reaches the same accuracy, however its four ranks are spread."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import environment, mpi_of
from network import Network

from dkcore import mnist
from dkcore.launch.mpi import find_mpi
from dkcore.training.job import Job

EXAMPLE = Path(__file__).parents[2] / "examples" / "mnist.py"
RANKS, SAMPLES = 4, 8000


def job_in(folder: Path) -> Job:
    """Elastic averaging of a perceptron, on a part of MNIST."""
    digits = np.load(mnist.load())
    data = {f"{name}_train": digits[f"{name}_train"][:SAMPLES] for name in "xy"} | {f"{name}_test": digits[f"{name}_test"] for name in "xy"}
    settings = {"rule": "aeasgd", "scalars": {"alpha": 0.225}, "trainer": "AEASGD", "optimizer": "adam", "metrics": ["accuracy"]}
    return Job(**settings, window=8, workers=RANKS, epochs=4, backend="jax", model=f"{EXAMPLE}:mlp").save(folder, data)


def accuracy_of(job: Job) -> float:
    return json.loads((job.directory / "evaluation.json").read_text())["accuracy"]


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_the_same_job_on_any_number_of_nodes(nodes, tmp_path):
    """Three runs gave 0.941, 0.941 and 0.937 on 1, 2 and 4 nodes."""
    job = job_in(tmp_path / "job")
    command = [sys.executable, "-m", "dkcore.worker", str(job.directory)]
    if nodes == 1:
        mpiexec = find_mpi(mpi_of("mpich")).command(RANKS)
        done = subprocess.run([*mpiexec, *command], env=environment("mpich"), capture_output=True, text=True, timeout=200)
    else:
        with Network(nodes) as network:
            done = network.run("mpich", *command, ranks_per_node=RANKS // nodes, timeout=200)
    assert done.returncode == 0, done.stderr
    sums = [json.loads((job.directory / f"rank-{rank}.json").read_text()) for rank in range(RANKS)]
    assert {one["nodes"] for one in sums} == {nodes}
    assert sum(one["merge"] is not None for one in sums) == (nodes if nodes > 1 else 0)
    assert accuracy_of(job) == pytest.approx(0.94, abs=0.02)
