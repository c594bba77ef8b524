"""Workers that are killed, join and leave, where batches are leased: whoever is there trains each row, once an epoch."""

import subprocess
import sys

import pytest
from seated_jobs import SeatedJob, counting

from dkcore.checkpoints.manifest import find

ROWS, EPOCHS = 63, 1500  # the last batch of an epoch has 3 rows of 4
OPTIONS = ["--batch-size", 4, "--window", 3, "--epochs", EPOCHS, "--sharding", "dynamic"]


def each_row_was_trained_once_an_epoch(job, epochs=EPOCHS, before=0):
    """And the report says so. What was in doubt when a worker was killed within an exchange may be missing, and no more.

    before: rows that were in doubt before this job went on.
    """
    counts, report = job.counts, job.report
    doubt = report["batches_in_doubt"] * 4 + before
    assert counts.max() <= epochs and ROWS * epochs - doubt <= counts.sum()
    assert report["samples_lost"] == 0 and report["batches_in_doubt"] <= 3 * report["worker_deaths"]
    return doubt


def all_samples_are_reported(job, doubt):
    assert ROWS * EPOCHS - doubt <= job.report["samples"] <= ROWS * EPOCHS


@pytest.mark.parametrize("policy", ["restart", "shrink"])
def test_rows_of_a_killed_worker_are_trained_by_whoever_is_there(tmp_path, policy):
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *OPTIONS, "--on-worker-loss", policy) as job:
        job.kill(1, 7)
        if policy == "restart":
            job.kill(0, 11)
            job.kill(1, 50)
        job.end()
    all_samples_are_reported(job, each_row_was_trained_once_an_epoch(job))
    assert (job.report["worker_deaths"], job.report["workers_lost"]) == ((3, 0) if policy == "restart" else (1, 1))


def test_a_job_delivers_whose_first_worker_is_lost(tmp_path):
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *OPTIONS, "--on-worker-loss", "shrink") as job:
        job.kill(0, 7)
        job.end()
    all_samples_are_reported(job, each_row_was_trained_once_an_epoch(job))


def test_workers_that_join_lease_as_the_others_do(tmp_path):
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *OPTIONS, "--epochs", EPOCHS, "--on-worker-loss", "restart") as job:
        with job.paused():
            subprocess.run([sys.executable, "-m", "dkcore", "join", job.home, "--workers", "2"], check=True)
            job.kill(2, 5)
            job.slot(3, 5)
            subprocess.run([sys.executable, "-m", "dkcore", "leave", job.home], check=True)
            job.until(lambda: (job.home / "rank-3.json").exists())
        job.end()
    all_samples_are_reported(job, each_row_was_trained_once_an_epoch(job))
    assert job.report["workers_joined"] == 2


def test_it_goes_on_within_an_epoch_after_deaths(tmp_path):
    folder = tmp_path / "checkpoints"
    options = [*counting(tmp_path, ROWS), *OPTIONS, "--on-worker-loss", "restart", "--checkpoint", folder]
    with SeatedJob(tmp_path, *options, "--epochs", 100000) as job:
        job.kill(1, 20)
        job.slot(1, 40)
        job.process.terminate()
        job.end()
    path = max(folder.glob("checkpoint-*"))
    manifest = find(str(path)).manifest
    epochs = manifest.leases[0]["next"] // manifest.leases[0]["batches"] + 1000
    with SeatedJob(tmp_path, *options, "--epochs", epochs, "--resume", folder) as job:
        job.kill(0, 10)
        job.end()
    if manifest.leases[0]["exact"]:  # or an exchange came between, and its rows are trained again
        each_row_was_trained_once_an_epoch(job, epochs, before=3 * 4)
