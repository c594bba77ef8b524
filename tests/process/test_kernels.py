"""Kernels of rules born at run time, where no cache can be written."""

import subprocess
import sys

CODE = """
import numpy as np
import dkcore as dk
from dkcore.engine.compile import compile_kernel

@dk.rule
def mine(c, w):
    return c + w * 3, w

with dk.Center.create(np.ones(5, np.float32)) as center:
    center.exchange(mine, np.ones(5, np.float32))
    print(compile_kernel(mine, "float32").made_by, center.snapshot().tolist())
"""


def test_a_rule_runs_where_the_home_cannot_be_written(tmp_path):
    blocked = tmp_path / "home"
    blocked.write_text("a file, where a folder would have to be: not even root can write below it")
    nowhere = {"HOME": str(blocked), "XDG_CACHE_HOME": str(blocked)}
    run = subprocess.run([sys.executable, "-c", CODE], env=nowhere, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "numba [4.0, 4.0, 4.0, 4.0, 4.0]"
