"""The engine's own tests, in C: as it is shipped, under ThreadSanitizer, and under AddressSanitizer with UBSan."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str) -> str:
    """The output of a program of CMake; a failure with all that it printed."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    program = shutil.which(command[0], path=path)
    assert program, f"no {command[0]} on PATH. Run: pip install cmake"
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("folder", "sanitize", "names"),
    [
        ("ctest", "", {"engine", "threads", "death", "kill", "codec", "gate", "merge"}),
        ("tsan", "thread", {"engine", "threads", "death", "codec", "gate", "merge"}),  # it watches the threads of one process
        ("asan", "address,undefined", {"engine", "threads", "death", "kill", "codec", "gate", "merge"}),
    ],
)
def test_the_engine_in_c(folder, sanitize, names):
    build = f"build/{folder}"
    settings = ["-DDKCORE_PYTHON=OFF", f"-DDKCORE_SANITIZE={sanitize}", f"-DPython_EXECUTABLE={sys.executable}"]
    run("cmake", "-S", ".", "-B", build, *settings)
    run("cmake", "--build", build, "--parallel")
    output = run("ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error")
    assert set(re.findall(r"Test +#\d+: (\w+) \.+ +Passed", output)) == names
