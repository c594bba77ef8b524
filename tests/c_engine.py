"""The engine and its tests in C, as CMake builds them in a folder of build/."""

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build(folder: str, *targets: str, sanitize: str = "") -> Path:
    """Build these targets, or all, in that folder of build/; its path. Processes that want the same folder take turns."""
    path = ROOT / "build" / folder
    path.mkdir(parents=True, exist_ok=True)
    settings = ["-DDKCORE_PYTHON=OFF", f"-DDKCORE_SANITIZE={sanitize}", f"-DPython_EXECUTABLE={sys.executable}"]
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run("cmake", "-S", str(ROOT), "-B", str(path), *settings)
        run("cmake", "--build", str(path), "--parallel", *(["--target", *targets] if targets else []))
    return path


def run(*command: str) -> str:
    """What a program printed, its errors too; a failure with that. CMake's programs may be those of its wheel."""
    program = shutil.which(command[0], path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    assert program, f"no {command[0]} on PATH. Run: pip install cmake"
    done = subprocess.run([program, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout
