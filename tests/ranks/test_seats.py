"""Workers that are killed in a job with seats: real ranks, real kill -9, and each row counted."""

import os
import signal

import numpy as np
import pytest
from mpi_ranks import KINDS, mpi_of
from seated_jobs import SeatedJob, counting, parent_of, runs

from dkcore.checkpoints.manifest import find

ROWS, EPOCHS = 64, 1500  # some seconds, in which workers are killed
STEPS = ["--batch-size", "4", "--window", "3", "--epochs", str(EPOCHS)]


def over(kind: str) -> list[str]:
    """The options for seats that are ranks of an MPI of that kind, or threads of an agent."""
    return [] if kind == "agent" else ["--mpi", mpi_of(kind)]


@pytest.mark.parametrize("kind", ["agent", *KINDS])
def test_a_killed_worker_is_followed_by_another_and_each_row_counts_once(tmp_path, kind):
    """Both workers die, the first one twice: it also evaluates, and delivers the model."""
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, "--on-worker-loss", "restart", *over(kind)) as job:
        job.kill(1, 7)
        job.kill(0, 11)
        job.kill(0, 200)
        printed = job.end()
    report = job.report
    assert (report["worker_deaths"], report["worker_restarts"], report["workers_lost"]) == (3, 3, 0), printed
    assert report["samples"] == ROWS * EPOCHS and report["exchanges_in_doubt"] == 0
    assert report["exchanges"] == 2 * EPOCHS * 3  # of 8 steps an epoch, by 3
    assert np.array_equal(job.counts, np.full(ROWS, EPOCHS))


@pytest.mark.parametrize("victim", [0, 1])
def test_training_goes_on_without_a_worker(tmp_path, victim):
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, "--no-shuffle", "--on-worker-loss", "shrink") as job:
        job.kill(victim, 7)
        job.end()
    report, counts = job.report, job.counts
    assert (report["worker_deaths"], report["worker_restarts"], report["workers_lost"]) == (1, 0, 1)
    assert report["samples"] == counts.sum() == ROWS * EPOCHS - report["samples_lost"]
    assert np.array_equal(counts[1 - victim :: 2], np.full(ROWS // 2, EPOCHS))
    assert counts[victim::2].max() < EPOCHS


def test_nobody_waits_for_a_worker_that_dies_before_its_first_exchange(tmp_path):
    """The others wait for all at the common start; its seat stands in for it there."""
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, "--on-worker-loss", "shrink") as job:
        job.kill(1, 0)
        job.end()
    assert (job.report["workers_lost"], job.report["exchanges"]) == (1, EPOCHS * 3)
    assert job.report["samples_lost"] == job.report["samples"] == ROWS // 2 * EPOCHS


def test_after_the_last_restart_training_goes_on_without_it(tmp_path):
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), *STEPS, "--on-worker-loss", "restart", "--restarts", "1") as job:
        job.kill(1, 7)
        job.kill(1, 50)
        job.end()
    assert (job.report["worker_deaths"], job.report["worker_restarts"], job.report["workers_lost"]) == (2, 1, 1)


def test_an_exception_ends_the_job_as_ever(tmp_path):
    options = counting(tmp_path, ROWS)
    (tmp_path / "models.py").write_text("def counter():\n    raise KeyError('mine')\n")
    with SeatedJob(tmp_path, *options, *STEPS, "--on-worker-loss", "restart") as job:
        printed = job.end(code=1)
    assert "in counter\n" in printed and printed.rstrip().endswith("KeyError: 'mine'"), printed
    assert not list((tmp_path / "tmp").iterdir())


def test_a_worker_that_dies_before_the_training_ends_the_job(tmp_path):
    options = counting(tmp_path, ROWS)
    (tmp_path / "models.py").write_text("import os, signal\ndef counter():\n    os.kill(os.getpid(), signal.SIGSEGV)\n")
    with SeatedJob(tmp_path, *options, *STEPS, "--on-worker-loss", "restart") as job:
        printed = job.end(code=128 + 11)
    assert "was killed by SIGSEGV, before the training began" in printed, printed


@pytest.mark.parametrize("kind", ["agent", "mpich"])
def test_rounds_go_on_when_a_worker_dies_and_with_the_one_that_follows(tmp_path, kind):
    """A synchronous method, whose merge runs in the seat of the first rank: that rank's worker dies, too."""
    options = [*counting(tmp_path, ROWS), *STEPS, "--trainer", "averaging", "--on-worker-loss", "restart", *over(kind)]
    with SeatedJob(tmp_path, *options) as job:
        job.kill(1, 7)
        before = job.slot(0, 0)["exchanges"]
        job.slot(0, before + 20)
        assert {slot["rank"] for slot in job.center.slots() if slot["state"] == "claimed"} == {0}  # the other one is not back yet
        job.kill(0, 30)
        printed = job.end()
    report = job.report
    assert (report["worker_deaths"], report["worker_restarts"]) == (2, 2), printed
    assert report["samples"] == ROWS * EPOCHS


def test_checkpoints_go_on_with_the_worker_that_follows(tmp_path):
    """No number is given twice; a signal after the deaths still asks for the last one; and that is gone on from."""
    folder = tmp_path / "checkpoints"
    options = [*counting(tmp_path, ROWS), "--batch-size", "4", "--window", "3", "--on-worker-loss", "restart", "--checkpoint", str(folder)]
    with SeatedJob(tmp_path, *options, "--epochs", "100000", "--checkpoint-every", "40 exchanges", "--keep", "1000") as job:
        job.kill(1, 500)
        job.kill(0, 100)
        fresh = job.slot(0, 150)["exchanges"]
        job.slot(1, 550)
        number = len(list(folder.glob("checkpoint-*")))
        job.until(lambda: len(list(folder.glob("checkpoint-*"))) > number + 1)
        job.process.terminate()
        job.end()
    assert fresh >= 150
    found = sorted(int(path.name[-8:]) for path in folder.glob("checkpoint-*"))
    saved = find(str(folder))
    assert saved.location.endswith(f"{found[-1]:08d}") and len(saved.manifest.ranks) == 2
    steps = next(rank["steps"] for rank in saved.manifest.ranks if rank["rank"] == 1)
    assert steps >= 550 * 2 and steps - int(saved.part("rank-1.npz")["optimizer-0"]) < 1000  # that of a checkpoint, and no new one
    epochs = EPOCHS + max(rank["epoch"] for rank in saved.manifest.ranks)
    with SeatedJob(tmp_path, *options, "--epochs", str(epochs), "--resume", str(folder)) as job:
        job.kill(0, 20)
        job.kill(1, 20)
        job.end()
    assert np.array_equal(job.counts, np.full(ROWS, epochs))


FRAGILE = """import keras, os, pathlib, signal
@keras.saving.register_keras_serializable()
class Fragile(keras.Sequential):
    def save(self, *arguments, **options):
        once = pathlib.Path("{flag}")
        if not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().save(*arguments, **options)
"""


def test_a_worker_that_dies_while_it_delivers_is_followed_too(tmp_path):
    """All have finished by then: the next one trains nothing, evaluates and delivers."""
    options, models = counting(tmp_path, ROWS), tmp_path / "models.py"
    models.write_text(FRAGILE.format(flag=tmp_path / "flag") + models.read_text().replace("keras.Sequential([", "Fragile(["))
    with SeatedJob(tmp_path, *options, *STEPS, "--on-worker-loss", "restart") as job:
        job.end()
    report = job.report
    assert (report["worker_restarts"], report["samples"], report["exchanges"]) == (1, ROWS * EPOCHS, 2 * EPOCHS * 3)
    assert (job.out / "model.keras").exists()


@pytest.mark.parametrize(("victim", "kind"), [("starter", "agent"), ("starter", "mpich"), ("seat", "mpich")])
def test_a_seat_that_dies_or_loses_its_starter_ends_the_job(tmp_path, victim, kind):
    """What becomes of an agent that dies: see test_agent.py."""
    with SeatedJob(tmp_path, *counting(tmp_path, ROWS), "--epochs", "100000", "--on-worker-loss", "restart", *over(kind)) as job:
        pid = job.slot(1, 3)["pid"]
        starter = parent_of(pid)
        os.kill(starter if victim == "starter" else parent_of(starter), signal.SIGKILL)
        printed = job.end(code=1 if victim == "starter" else 9)
    assert ("the starter of this seat" if victim == "starter" else "died") in printed, printed
    assert not runs(pid) and not list((tmp_path / "tmp").iterdir())
