"""dkcore under a real Slurm of two hosts. It needs root and Debian's slurm-wlm, munge and libpmix-dev: make test-slurm."""

import json
import re
import sys
import time

import pytest
from cluster import Slurm
from mpi_ranks import KINDS, environment, mpi_of, write_script
from network import Network

DKCORE = (sys.executable, "-P", "-m", "dkcore")
PLACE = """
import socket
print("rank", world.rank, "of", world.size, socket.gethostname(), world.node_rank, world.node_size, world.comm.allreduce(1), flush=True)
"""
PLACED = [f"rank {rank} of 4 node{rank // 2} {rank % 2} 2 4" for rank in range(4)]


@pytest.fixture(scope="module")
def slurm():
    with Network(2) as network, Slurm(network) as cluster:
        yield cluster


@pytest.mark.parametrize(("kind", "pmi"), [("mpich", "pmi2"), ("openmpi", "pmix")])
def test_a_script_s_ranks_form_one_world_of_two_nodes(kind, pmi, slurm, tmp_path):
    script = write_script(tmp_path, PLACE)
    for command in ((sys.executable,), (*DKCORE, "run")):
        done = slurm.run("srun", f"--mpi={pmi}", "-N2", "-n4", *command, script, **environment(kind))
        assert done.returncode == 0, done.stderr
        assert sorted(done.stdout.splitlines()) == PLACED
    slurm.gone()


def test_srun_trains(slurm, tiny, tmp_path):
    options = ("--model", f"{tiny}/models.py:small", "--data", f"{tiny}/data.npz", "--trainer", "aeasgd", "--epochs", "3")
    command = (*DKCORE, "train", *options, "--window", "4", "--out", str(tmp_path / "out"), "--backend", "jax")
    done = slurm.run("srun", "--mpi=pmi2", "-N2", "-n2", *command, timeout=120, **environment("mpich"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("AEASGD, 2 workers") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.keras", "history.parquet", "report.json", "report.png"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["workers"], report["samples"]) == (2, 3 * 501)
    slurm.gone()


@pytest.mark.parametrize("kind", KINDS)
def test_an_allocation_s_hosts_are_used_unasked(kind, slurm, tmp_path):
    """mpiexec asks Slurm, and starts its proxies by srun."""
    command = (*DKCORE, "run", "-n", "4", "--mpi", mpi_of(kind), write_script(tmp_path, PLACE))
    done = slurm.run("salloc", "-N2", "-n4", *command, **environment(kind))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == PLACED
    slurm.gone()


@pytest.mark.parametrize("kind", KINDS)
def test_one_task_of_srun_launches_where_it_is(kind, slurm, tmp_path):
    """A step within a step would wait for room for ever."""
    script = write_script(tmp_path, "print(world.rank, world.size)")
    done = slurm.run("srun", "-n1", *DKCORE, "run", "-n", "2", "--mpi", mpi_of(kind), script, timeout=30, **environment(kind))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["0 2", "1 2"]
    slurm.gone()


def test_a_death_in_an_allocation_ends_the_job(slurm, tmp_path):
    """MPICH ends all ranks of that host, and does not tell the other."""
    script = write_script(tmp_path, "world.comm.Barrier()\nif world.rank == 3:\n    os._exit(3)\nworld.comm.Barrier()")
    launch = f"from dkcore.launch.launch import launch\nlaunch([{script!r}], 4, directory={str(tmp_path / 'job')!r}, rendezvous=10)"
    done = slurm.run("salloc", "-N2", "-n4", sys.executable, "-c", launch, timeout=50, **environment("mpich"))
    assert done.returncode != 0
    # Rank 2, which mpiexec ended with it, may be named beside it; and salloc prints its own line after ours.
    assert re.search(r"^Error: ranks? .*3 on node1: process(es)? .*died without an exception", done.stderr, re.MULTILINE)
    slurm.gone(within=10)


def test_a_batch_script(slurm, tmp_path):
    out, script = tmp_path / "out", write_script(tmp_path, PLACE)
    batch = tmp_path / "batch.sh"
    batch.write_text(f"#!/bin/sh\n#SBATCH -N 2 -n 4 -o {out}\nsrun --mpi=pmi2 {' '.join(DKCORE)} run {script}\necho over\n")
    done = slurm.run("sbatch", str(batch), **environment("mpich"))
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 20
    while not out.exists() or "over" not in out.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert sorted(out.read_text().splitlines()) == ["over", *PLACED]
    slurm.gone()


def test_srun_without_mpi_is_told(slurm, tmp_path):
    """Otherwise each task would be a world of one, and train alone."""
    for command in ((sys.executable,), (*DKCORE, "run")):
        done = slurm.run("srun", "--mpi=none", "-n2", *command, write_script(tmp_path, "print('alone')"), **environment("mpich"))
        assert done.returncode != 0
        assert "Expected a job of 2 ranks, as mpiexec says. Received: 1 in MPICH" in done.stderr
        assert "srun --mpi=pmi2" in done.stderr
        assert "alone" not in done.stdout
    slurm.gone()


def test_a_rank_that_fails_ends_the_step(slurm, tmp_path):
    began = time.monotonic()
    script = write_script(tmp_path, "if world.rank == 3:\n    raise ValueError('boo')\nworld.comm.Barrier()")
    done = slurm.run("srun", "--mpi=pmi2", "-N2", "-n4", *DKCORE, "run", script, **environment("mpich"))
    assert done.returncode != 0
    assert "ValueError: boo" in done.stderr
    assert time.monotonic() - began < 20
    slurm.gone(within=10)


def test_a_cancelled_job_leaves_nothing(slurm, tmp_path):
    script = write_script(tmp_path, f"open({str(tmp_path)!r} + f'/up-{{world.rank}}', 'w').close()\nworld.comm.Barrier()\ntime.sleep(60)")
    job = slurm.popen("salloc", "-N2", "-n4", *DKCORE, "run", "-n", "4", script, env=environment("mpich"), stdout=-1, stderr=-1, text=True)
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("up-*"))) < 4:
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    assert slurm.run("scancel", "--user=root").returncode == 0
    job.communicate(timeout=20)
    slurm.gone(within=10)
