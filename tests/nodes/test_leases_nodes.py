"""Leases on two nodes: each has its part of the rows, which its ranks lease from each other; also when a job goes on."""

import json
import sys

import numpy as np
from counting import ROWS, arguments, times_of, write_counting

from dkcore.checkpoints.manifest import find

EPOCHS = 40


def test_two_nodes_train_each_row_once_an_epoch_and_go_on_within_one(two_nodes, tmp_path):
    folder, out = write_counting(tmp_path), tmp_path / "out"
    options = ["--sharding", "dynamic", "--epochs", EPOCHS]
    record = ["--checkpoint", tmp_path / "checkpoints", "--checkpoint-every", "9 exchanges", "--keep", 1000]
    done = two_nodes.run("mpich", sys.executable, *arguments(folder, out, *options, *record), ranks_per_node=2)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "report.json").read_text())["samples"] == EPOCHS * ROWS
    np.testing.assert_array_equal(times_of(out), EPOCHS)

    manifests = [(path, find(str(path)).manifest) for path in sorted((tmp_path / "checkpoints").iterdir())]
    assert all([state["batches"] for state in manifest.leases] == [26, 26] for _, manifest in manifests)  # 102 and 101 rows
    within = [each for each in manifests if any(state["next"] < 26 * EPOCHS for state in each[1].leases)]
    path, manifest = max(within, key=lambda each: (all(state["exact"] for state in each[1].leases), each[0]))
    done = two_nodes.run("mpich", sys.executable, *arguments(folder, tmp_path / "on", *options, "--resume", path), ranks_per_node=1)
    assert done.returncode == 0, done.stderr
    again = times_of(tmp_path / "on") - EPOCHS
    most = sum(4 * 2 * 3 * 4 for state in manifest.leases if not state["exact"])  # rows of two workers: some exchanges while it was copied
    assert again.min() >= 0 and again.sum() <= most
