"""Jobs whose ranks lease batches: each row once an epoch, also when a job goes on in the middle of one."""

import json
import subprocess
import sys

import numpy as np
import pytest
from counting import ROWS, arguments, times_of, write_counting

from dkcore.checkpoints.manifest import find
from dkcore.training.lease_state import epochs_done

EPOCHS, BATCHES = 50, 51


def train(folder, out, *more):
    command = [sys.executable, *arguments(folder, out, "--sharding", "dynamic", "--epochs", EPOCHS, *more)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a job of two workers that has ended, and has left checkpoints."""
    folder = write_counting(tmp_path_factory.mktemp("leases"))
    report = train(folder, folder / "out", "--checkpoint", folder / "checkpoints", "--checkpoint-every", "9 exchanges", "--keep", 1000)
    assert report["samples"] == EPOCHS * ROWS
    return folder


def within_an_epoch(folder):
    """A checkpoint that was written there, and its manifest."""
    for path in sorted((folder / "checkpoints").iterdir(), reverse=True):
        manifest = find(str(path)).manifest
        (state,) = manifest.leases
        assert state["batches"] == BATCHES
        begun = [first // BATCHES for first, _ in state["unsettled"]] + [rank["epoch"] for rank in manifest.ranks]
        if state["exact"] and state["next"] % BATCHES and state["unsettled"] and min(begun) > 0:
            return path, manifest
    raise AssertionError("no checkpoint within an epoch")


def test_two_workers_train_each_row_once_an_epoch(trained):
    np.testing.assert_array_equal(times_of(trained / "out"), EPOCHS)


@pytest.mark.parametrize("workers", [2, 3])
def test_a_job_goes_on_within_an_epoch_and_trains_what_is_left_of_it(trained, tmp_path, workers):
    path, manifest = within_an_epoch(trained)
    report = train(trained, tmp_path / "out", "--resume", path, "--workers", workers)
    np.testing.assert_array_equal(times_of(tmp_path / "out"), EPOCHS)
    (state,) = manifest.leases
    pending = sum(count for rank in manifest.ranks for _, count in rank["leases"]) if workers == 2 else 0
    left = EPOCHS * BATCHES - state["next"] + sum(count for _, count in state["unsettled"]) - pending
    epochs_left = EPOCHS - state["next"] // BATCHES  # the last batch of each has 3 rows of 4
    assert left * 4 - epochs_left - 1 <= report["samples"] <= left * 4 - epochs_left + 1


def test_fixed_shards_go_on_where_leases_were_and_leases_where_they_were(trained, tmp_path):
    """With other rows: so far as it was."""
    path, manifest = within_an_epoch(trained)
    (state,) = manifest.leases
    done = state["next"] - sum(count for _, count in state["unsettled"])
    there = ["--resume", path, "--checkpoint", tmp_path / "there", "--checkpoint-every", "1 epoch"]
    report = train(trained, tmp_path / "out", *there, "--sharding", "fixed")
    assert abs(report["samples"] - 4 * (EPOCHS * BATCHES - done)) <= EPOCHS + 8
    far = epochs_done(find(str(tmp_path / "there")).manifest)
    report = train(trained, tmp_path / "back", "--resume", tmp_path / "there", "--epochs", EPOCHS + 2)
    assert abs(report["samples"] - (EPOCHS + 2 - far) * ROWS) <= 8


def test_rounds_of_a_synchronous_method_have_each_row_once(trained, tmp_path):
    report = train(trained, tmp_path / "out", "--trainer", "easgd", "--epochs", 3)
    assert report["samples"] == 3 * ROWS and report["exchanges"] == 3 * BATCHES // 3 and report["batches_left"] == 0


def test_a_training_that_is_over_is_not_gone_on_with(trained, tmp_path):
    path, manifest = within_an_epoch(trained)  # some of which is unsettled
    (state,) = manifest.leases
    epochs = min([first // BATCHES for first, _ in state["unsettled"]] + [rank["epoch"] for rank in manifest.ranks])  # at least 1
    command = [sys.executable, *arguments(trained, tmp_path / "out", "--sharding", "dynamic", "--epochs", epochs, "--resume", path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1 and "Expected a checkpoint with epochs left to do" in done.stderr
