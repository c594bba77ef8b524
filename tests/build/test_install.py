"""`pip install .` in an empty environment gives a package that works: built in isolation, from a tree without leftovers."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import dkcore

ROOT = Path(__file__).parents[2]
LEFTOVERS = shutil.ignore_patterns(".venv*", "build", ".git", "*.so", "*.egg-info", "__pycache__", "demo")
CODE = """
import sys
import numpy as np
import dkcore as dk
with dk.Center.create(np.zeros(5, np.float32)) as center:
    center.exchange(dk.rules.adag, np.ones(5, np.float32), np.zeros(5, np.float32), window=4)
    print(dk.__file__, center.snapshot().tolist())
"""


def test_a_wheel_is_built_in_isolation_and_works(tmp_path):
    shutil.copytree(ROOT, tmp_path / "source", ignore=LEFTOVERS)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(tmp_path / "source")]
    built = subprocess.run(pip, capture_output=True, text=True, timeout=280, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob(f"dkcore-{dkcore.__version__}-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    inside = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*")}
    assert {"dkcore/py.typed", "dkcore/_tensorflow_op/source/op.cc", "dkcore/_tensorflow_op/source/CMakeLists.txt"} <= inside
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == f"{tmp_path}/site/dkcore/__init__.py [0.25, 0.25, 0.25, 0.25, 0.25]"
