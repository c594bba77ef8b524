"""The laws of a replica, once per Keras backend: a process can hold only one, so each runs in a pytest of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

LAWS = Path(__file__).parent / "backends" / "replica_laws.py"


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_laws(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--durations=5", str(LAWS)]
    run = subprocess.run(
        command, env=environment, cwd=LAWS.parents[2], timeout=280, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = run.stdout.decode(errors="replace")
    print(output)
    assert run.returncode == 0, output[-6000:]
