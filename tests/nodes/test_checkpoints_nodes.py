"""Checkpoints between nodes: of two nodes, resumed on one, and back; the same merge on all; what is held back is not lost."""

import json
import sys
from pathlib import Path

import numpy as np
from mpi_ranks import mpirun

from dkcore.checkpoints.manifest import find


def arguments(tiny: Path, out: Path, epochs: int, *more: object) -> list[str]:
    options = ["--model", f"{tiny}/models.py:small", "--data", tiny / "data.npz", "--backend", "jax", "--scale", 0.01, "--window", 2]
    return [*map(str, ["-m", "dkcore", "train", *options, "--batch-size", 16, "--quiet", "--out", out, "--epochs", epochs, *more])]


def report_of(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def test_from_two_nodes_to_one_and_back(two_nodes, tiny, tmp_path):
    """Every epoch has all rows once, wherever it is trained; the center goes along with what compression holds back."""
    folder = tmp_path / "checkpoints"
    options = ["--trainer", "downpour", "--merge-compression", "topk:0.25", "--checkpoint", folder, "--checkpoint-every", "1 epoch"]
    done = two_nodes.run("mpich", sys.executable, *arguments(tiny, tmp_path / "a", 2, *options), ranks_per_node=1)
    assert done.returncode == 0, done.stderr
    manifest = find(str(folder)).manifest
    assert (manifest.nodes, len(manifest.ranks), len(set(manifest.merges))) == (2, 2, 1)
    first, second = (find(str(folder)).part(f"node-{node}.npz") for node in range(2))
    np.testing.assert_array_equal(first["agreed-0"], second["agreed-0"])  # after the same merge

    done = mpirun("mpich", sys.executable, *arguments(tiny, tmp_path / "b", 3, *options, "--resume", folder))
    assert done.returncode == 0, done.stderr
    report = report_of(tmp_path / "b")
    assert report["nodes"] == 1 and "each of 2 workers has its optimizer back" in report["resumed"]
    before = sum(rank["steps"] for rank in manifest.ranks)
    assert report["samples"] <= 3 * 501 - before * 16 + 2 * 16  # the last batch of an epoch is smaller

    done = two_nodes.run("mpich", sys.executable, *arguments(tiny, tmp_path / "c", 5, *options, "--resume", folder), ranks_per_node=1)
    assert done.returncode == 0, done.stderr
    report = report_of(tmp_path / "c")
    assert report["nodes"] == 2 and report["test_loss"] < 0.7
    assert find(str(folder)).manifest.nodes == 2
