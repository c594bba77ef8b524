"""dist-keras' MNIST example, as examples/ has it."""

import os
import re
import subprocess
import sys

from spark_settings import ROOT


def test_the_mnist_example_runs(spark_environment, tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "COLUMNS": "120"}
    command = [sys.executable, str(ROOT / "examples/spark_mnist.py"), "--rows", "1000"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    accuracies = dict(re.findall(r"^│ ([A-Za-z]+) *│ *(0\.\d+) *│", done.stdout, re.M))
    assert set(accuracies) == {"SingleTrainer", "ADAG", "DynSGD", "AEASGD"}
    assert float(accuracies["SingleTrainer"]) > 0.7
    assert min(map(float, accuracies.values())) > 0.2  # a guess has 0.1; a thousand digits are few
