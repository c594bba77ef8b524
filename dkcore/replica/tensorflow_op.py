"""The compiled TensorFlow op: where it lies, how it is loaded, and how it is compiled when it is missing.

The op is C++ against TensorFlow's own headers, so one binary serves one build of TensorFlow. Its file name says which:
after an upgrade of TensorFlow the old file is simply not found, and never loaded by mistake.

    python -m dkcore.tensorflow_op          compiles the op for the TensorFlow of this environment (15 s)
"""

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from dkcore.cache import cache_directory
from dkcore.errors import MissingError, expected
from dkcore.frameworks import quieten

__all__ = ["COMMAND", "build", "find", "load"]

COMMAND = "python -m dkcore.tensorflow_op"
PACKAGE = Path(__file__).parents[1] / "_tensorflow_op"
CHECKOUT = Path(__file__).parents[2] / "bindings" / "tensorflow"


def source() -> Path:
    """The directory of op.cc and its CMakeLists.txt: package data, or the source checkout.

    Raises:
        MissingError: neither is there.
    """
    for place in (PACKAGE / "source", CHECKOUT):
        if (place / "op.cc").is_file():
            return place
    raise MissingError(expected("op.cc of the TensorFlow op", f"none in {PACKAGE / 'source'} or {CHECKOUT}", "Install dkcore anew."))


def import_tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise MissingError(expected("TensorFlow", f"{type(error).__name__}: {error}", 'Run: pip install "dkcore[tensorflow]"')) from error
    return tensorflow


def filename(tensorflow: Any) -> str:
    """The op's file name for this TensorFlow, this source and this machine."""
    build_of_tensorflow = (tensorflow.version.GIT_VERSION, tensorflow.version.COMPILER_VERSION, platform.machine())
    digest = hashlib.sha256("\n".join(build_of_tensorflow).encode())
    for name in ("op.cc", "CMakeLists.txt"):
        digest.update((source() / name).read_bytes())
    return f"op-{tensorflow.__version__}-{digest.hexdigest()[:12]}.so"


def find() -> Path:
    """The compiled op for the TensorFlow of this environment.

    Raises:
        MissingError: there is none; the message has the command that compiles it, and which others lie around.
    """
    name = filename(import_tensorflow())
    for place in (PACKAGE, cache_directory()):
        if (place / name).is_file():
            return place / name
    others = sorted(path.name for place in (PACKAGE, cache_directory()) for path in place.glob("op-*.so"))
    raise MissingError(expected(f"the compiled TensorFlow op {name}", f"{', '.join(others) or 'none'}", f"Run: {COMMAND}"))


@functools.cache
def load() -> Any:
    """The op as a Python function: ``op(handles=..., target=..., T=...)`` returns what the C function returned.

    Raises:
        MissingError: the op is not compiled, or this TensorFlow refuses it; the message has the command that mends it.
    """
    path = find()
    tensorflow = import_tensorflow()
    try:
        return tensorflow.load_op_library(str(path)).dkcore_run
    except (tensorflow.errors.OpError, AttributeError) as error:
        raise MissingError(expected(f"a loadable TensorFlow op in {path}", error, f"Delete that file, then run: {COMMAND}")) from error


def build(destination: str | os.PathLike[str] | None = None) -> Path:
    """Compile the op for the TensorFlow of this environment, and return its path.

    Args:
        destination: the directory that receives it; by default the user's cache. setup.py passes the package's own.

    Raises:
        MissingError: TensorFlow, CMake or a C++ compiler is missing; the message has the end of what CMake said.
    """
    tensorflow = import_tensorflow()
    directory = Path(destination) if destination is not None else cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / filename(tensorflow)
    # Beside its destination, because only within one file system does os.replace put the whole file there or nothing.
    with tempfile.TemporaryDirectory(dir=directory, prefix="build-") as work:
        flags = [
            f"-DTENSORFLOW_COMPILE_FLAGS={';'.join(tensorflow.sysconfig.get_compile_flags())}",
            f"-DTENSORFLOW_LINK_FLAGS={';'.join(tensorflow.sysconfig.get_link_flags())}",
        ]
        cmake("-S", str(source()), "-B", work, *flags)
        cmake("--build", work)
        os.replace(Path(work) / "dkcore_tensorflow_op.so", path)
    load.cache_clear()
    return path


def cmake(*arguments: str) -> None:
    # A virtual environment's own CMake is found even where the environment is not activated.
    program = shutil.which("cmake") or shutil.which("cmake", path=sysconfig.get_path("scripts"))
    if program is None:
        raise MissingError(expected("cmake on the PATH", "none", f"Run: pip install cmake, then: {COMMAND}"))
    run = subprocess.run([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        raise MissingError(
            expected(
                "CMake to compile the TensorFlow op",
                f"exit status {run.returncode}\n{run.stdout[-2000:]}\n",
                f"It needs a C++17 compiler (Debian: apt install g++ make). Then run: {COMMAND}",
            )
        )


def main() -> int:
    quieten(os.environ)
    try:
        print(f"Compiled {build()}")
    except MissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
