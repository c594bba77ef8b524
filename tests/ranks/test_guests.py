"""Workers that join a running job, and leave it; workers that are stopped; a user's own mpirun."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import environment, mpi_of
from seated_jobs import SeatedJob, counting, runs

from dkcore.launch.mpi import find_mpi

ROWS, EPOCHS = 64, 1500  # some seconds, in which workers are killed
STEPS = ["--batch-size", "4", "--window", "3"]


def dkcore(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "dkcore", *map(str, words)], capture_output=True, text=True, timeout=60)


def refused(*words: object) -> str:
    done = dkcore(*words)
    assert done.returncode == 1 and done.stderr.startswith("Error: "), done
    return done.stderr


def test_workers_join_and_leave(tmp_path):
    """What they trained is in the center: each row at least once an epoch, and as often more as they say."""
    epochs = 1000  # they are not through before they are asked to leave
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, "--epochs", epochs, "--on-worker-loss", "restart") as job:
        home = job.home
        with job.paused():
            assert dkcore("join", home, "--workers", 2).stdout == "workers 2 and 3 join\n"
            assert "at most 3 to leave" in refused("leave", home, "--workers", 4)
            assert "more workers on this node" in refused("join", home, "--workers", 1000)
            job.kill(2)
            job.slot(3, 4)
            assert dkcore("leave", home).stdout == "worker 3 leaves\n"
            job.until(lambda: (home / "rank-3.json").exists())
            job.until(lambda: "had joined, was killed by SIGKILL" in (home / "logs" / "rank-0.log").read_text())
            assert json.loads((home / "rank-3.json").read_text())["samples"] < ROWS // 2 * epochs
        job.end()
    report = job.report
    assert (report["workers_joined"], report["worker_deaths"], report["workers_lost"], report["samples_lost"]) == (2, 1, 0, 0)
    assert job.counts.min() >= epochs and job.counts.sum() == report["samples"] > ROWS * epochs


@pytest.mark.parametrize(("kind", "sharding"), [("agent", "fixed"), ("agent", "dynamic"), ("mpich", "fixed")])
def test_workers_that_the_job_began_with_leave_but_for_one(tmp_path, kind, sharding):
    """Guests go first. With fixed shards nobody trains the rows of who left; leased ones the others do. Its process has gone."""
    options = [*counting(tmp_path, ROWS), *STEPS, "--epochs", EPOCHS, "--sharding", sharding, "--on-worker-loss", "restart", "--no-shuffle"]
    with SeatedJob(tmp_path, *options, *([] if kind == "agent" else ["--mpi", mpi_of(kind)])) as job:
        pid, home = job.slot(1, 3)["pid"], job.home
        with job.paused():
            assert dkcore("join", home).stdout == "worker 2 joins\n"
            job.slot(2, 1)
            assert dkcore("leave", home, "--workers", 2).stdout == "workers 1 and 2 leave\n"
            assert "at most 0 to leave" in refused("leave", home)
        job.until(lambda: not runs(pid))
        job.slot(0, 1)
        job.end()
    report = job.report
    assert (report["workers_left"], report["workers_lost"], report["worker_deaths"], report["workers_joined"]) == (1, 0, 0, 1)
    assert report["exchanges_in_doubt"] == report["batches_in_doubt"] == 0
    if sharding == "dynamic":
        assert np.array_equal(job.counts, np.full(ROWS, EPOCHS)) and report["samples_lost"] == 0
    else:
        assert report["samples_lost"] > 0 and job.counts[::2].min() >= EPOCHS


def test_a_worker_that_has_joined_takes_part_in_rounds(tmp_path):
    options = [*counting(tmp_path, ROWS), *STEPS, "--epochs", EPOCHS, "--trainer", "averaging", "--on-worker-loss", "shrink"]
    with SeatedJob(tmp_path, *options) as job:
        with job.paused():
            assert dkcore("join", job.home).stdout == "worker 2 joins\n"
            job.slot(2, 1)  # it has handed in
        job.end()
    assert job.report["workers_joined"] == 1 and job.report["samples"] > ROWS * EPOCHS


def test_a_job_waits_for_the_last_window_of_a_worker_that_has_joined(tmp_path):
    """It was stopped until the job's own workers were through: what it adds then is in the model still."""
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, "--epochs", EPOCHS, "--on-worker-loss", "shrink") as job:
        with job.paused():
            dkcore("join", job.home)
            guest = job.slot(2, 4)["pid"]
            os.kill(guest, signal.SIGSTOP)
        job.until(lambda: [slot["rank"] for slot in job.center.slots() if slot["state"] == "done"] in ([0, 1], [1, 0]))
        os.kill(guest, signal.SIGCONT)
        job.end()
    assert job.counts.sum() == job.report["samples"] > ROWS * EPOCHS


@pytest.mark.parametrize("kind", ["join", "leave"])
def test_jobs_that_nobody_can_join(tmp_path, kind):
    assert "a job directory with job.json" in refused(kind, tmp_path)
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, "--epochs", 100000) as job:
        assert "whose ranks train themselves" in refused(kind, job.home)


def test_a_job_that_has_ended_cannot_be_joined(tmp_path):
    from dkcore.training.job import Job

    Job(on_worker_loss="restart").save(tmp_path)
    assert "a job that runs" in refused("join", tmp_path)


@contextlib.contextmanager
def full_shared_memory():
    """Not a page is left in /dev/shm, which is a mount of these tests' own."""
    status = os.statvfs("/dev/shm")
    size = lambda blocks: subprocess.run(["mount", "-o", f"remount,size={blocks * status.f_frsize}", "/dev/shm"], check=True)  # noqa: E731
    size(status.f_blocks - status.f_bfree)
    try:
        yield
    finally:
        size(status.f_blocks)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a /dev/shm of its own here")
def test_without_room_in_shared_memory_nobody_joins_and_the_job_goes_on(tmp_path):
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, "--epochs", EPOCHS, "--on-worker-loss", "restart") as job:
        with job.paused():
            log = job.home / "logs" / "rank-0.log"
            with full_shared_memory():
                assert dkcore("join", job.home).stdout == "worker 2 joins\n"
                job.until(lambda: "worker 2, which had joined, " in log.read_text())
            said = log.read_text()
            assert dkcore("join", job.home).stdout == "worker 3 joins\n", "there is room again"
            job.slot(3, 1)
        job.end()
    assert "NoRoomError" in said and "/dev/shm" in said, said
    assert job.report["workers_joined"] >= 1 and job.report["workers_lost"] == 0
    assert job.counts.sum() == job.report["samples"] > ROWS * EPOCHS and job.counts.min() >= EPOCHS


def test_a_worker_that_stands_still_counts_as_killed_when_asked(tmp_path):
    """Stopped, it holds nobody up; and it is told."""
    options = ["--epochs", EPOCHS, "--on-worker-loss", "restart", "--stall-timeout", 3]
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, *options) as job:
        job.kill(1, 7, signal.SIGSTOP)
        log = job.home / "logs" / "rank-1.log"
        job.until(lambda: "has made no progress for" in log.read_text())
        job.end()
    assert job.report["worker_restarts"] == 1
    assert np.array_equal(job.counts, np.full(ROWS, EPOCHS))


def test_under_a_user_s_own_mpirun(tmp_path):
    """No launcher of ours is there to clean up: nothing is left all the same."""
    prefix = find_mpi(mpi_of("mpich")).command(2)
    before = set(os.listdir("/dev/shm"))
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, "--epochs", EPOCHS, "--on-worker-loss", "restart",
                   env=environment("mpich"), prefix=tuple(prefix)) as job:  # fmt: skip
        job.kill(0, 7)
        job.kill(1, 7)
        job.end()
    assert job.report["worker_restarts"] == 2
    assert np.array_equal(job.counts, np.full(ROWS, EPOCHS))
    assert set(os.listdir("/dev/shm")) <= before


def test_all_of_a_job_ends_with_its_launcher(tmp_path):
    """Seats, their starters and their workers."""
    before = set(os.listdir("/dev/shm"))
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, "--epochs", 100000, "--on-worker-loss", "restart") as job:
        workers = [job.slot(rank, 3)["pid"] for rank in range(2)]
        job.let_go()
        job.process.kill()
        until = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in workers) or set(os.listdir("/dev/shm")) - before:
            assert time.monotonic() < until, (workers, os.listdir("/dev/shm"))
            time.sleep(0.02)
