"""The laws of leases, replicas, shards and resuming, once per Keras backend: a process can hold only one, so each has its own pytest."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

LAWS = [str(Path(__file__).parent / "backends" / f"{name}_laws.py") for name in ("lease", "replica", "resume", "shard")]


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_laws(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--durations=5", *LAWS]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], timeout=280, **streams)
    output = done.stdout.decode(errors="replace")
    print(output)
    assert done.returncode == 0, output[-6000:]
