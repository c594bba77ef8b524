"""A trainer with one worker is ``fit``, to the bit: over optimizers, losses, metrics, weights and settings, on each backend."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TABLE = Path(__file__).parent / "backends" / "fit_contract_rank.py"


@functools.cache
def rows(backend: str) -> list[dict]:
    """What the table's process prints for one backend."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, str(TABLE), backend], env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-6000:]
    assert "UserWarning" not in done.stderr, done.stderr[-6000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_single_trainer_is_fit(backend):
    table = rows(backend)
    assert len(table) >= 8
    assert {row["compiled"] for row in table} == {False, True}  # settings of the trainer, and of the model's own compile
    wrong = [row for row in table if row["difference"] != 0 or not row["moved"] > 0 or row["unlike"] or not row["untouched"]]
    assert not wrong
