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
    path, manifest = next(each for each in reversed(manifests) if all(state["exact"] for state in each[1].leases))
    assert [state["batches"] for state in manifest.leases] == [26, 26]  # 102 and 101 rows
    done = two_nodes.run("mpich", sys.executable, *arguments(folder, tmp_path / "on", *options, "--resume", path), ranks_per_node=1)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(times_of(tmp_path / "on"), EPOCHS)
