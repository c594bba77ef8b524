"""The stub of the compiled engine says what is there: every name, every parameter, no more and no less."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUFFER = "dkcore._engine.Range.__buffer__"  # seen by Python from 3.12 on


def test_the_stub_is_that_of_the_compiled_module(tmp_path):
    allowed = tmp_path / "allowed"
    allowed.write_text(BUFFER)
    command = [sys.executable, "-m", "mypy.stubtest", "dkcore._engine", "--allowlist", str(allowed), "--ignore-unused-allowlist"]
    environment = os.environ | {"MYPY_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
