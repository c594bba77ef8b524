"""Builds the native parts by CMake; all settings are in pyproject.toml and CMakeLists.txt."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """`dkcore._engine` by CMake; the TensorFlow op too when TensorFlow is importable here."""

    def build_extension(self, ext):
        compiler = os.environ.get("CC", "cc")
        if not shutil.which(compiler.split()[0]):
            raise SystemExit(f"Expected a C compiler. Received: no {compiler!r} on PATH. Run: apt-get install gcc (or dnf install gcc).")
        if not shutil.which("cmake"):
            raise SystemExit("Expected cmake on PATH. Received: none. Run: pip install cmake, or leave out --no-build-isolation.")
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = Path(self.build_temp).resolve() / "cmake"
        configure = ["cmake", "--fresh", "-S", str(HERE), "-B", str(build), f"-DPython_EXECUTABLE={sys.executable}", "-DBUILD_TESTING=OFF"]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build), "--parallel"], check=True)
        subprocess.run(["cmake", "--install", str(build), "--prefix", str(target)], check=True)
        if importlib.util.find_spec("tensorflow"):
            package = HERE / "dkcore" if self.editable_mode or self.inplace else Path(self.build_lib).resolve() / "dkcore"
            self.build_tensorflow_op(package)

    def build_tensorflow_op(self, package):
        sys.path.insert(0, str(HERE))
        from dkcore.replica import tensorflow_op

        try:
            tensorflow_op.build(package / "_tensorflow_op")
        except ImportError as error:  # MissingError: the package works without the op, and says how to build it later
            print(f"warning: the TensorFlow op was not built: {error}", file=sys.stderr)


setup(ext_modules=[Extension("dkcore._engine", [])], cmdclass={"build_ext": CMakeBuild})
