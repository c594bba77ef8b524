"""The Pythons of Spark's executors: whether they have what our code there needs, found out before it is sent."""

import os
import shutil
import sys
from typing import TYPE_CHECKING

from dkcore.errors import MissingError, expected

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

__all__ = ["require"]

ALWAYS = ("pyarrow", "pandas", "numpy", "dkcore")
KNOWN: set[tuple[str, str, tuple[str, ...]]] = set()  # of what was looked at: once a context
WAYS = "Install that there, or set PYSPARK_PYTHON to a Python that has it, or ship one with --archives (docs/spark.md)."


def require(spark: "SparkSession", *more: str) -> None:
    """MissingError when an executor's Python lacks what we always need there, or one of more packages; it names that Python.

    Spark itself starts with pyarrow, and fails there with pages of Java. Where executors run this very Python, which has imported
    all of that, nothing is looked at; elsewhere it takes a job of as many tasks as there are slots, once.
    """
    context, packages = spark.sparkContext, (*ALWAYS, *more)
    key = (context.applicationId, context.pythonExec, packages)
    if key in KNOWN or own(context):
        return
    for host, python, lacking in ask(context, packages):
        if lacking:
            what = f"{', '.join(lacking)} on executor {host}, for its Python {python}"
            raise MissingError(expected(what, f"No module named {lacking[0]!r}", WAYS))
    KNOWN.add(key)


def own(context: "SparkContext") -> bool:
    """Whether the executors' Python is that of this process."""
    if not (context.master or "").startswith("local["):
        return False
    python = shutil.which(context.pythonExec)  # two environments may link to one program: their folders tell them apart
    return python is not None and os.path.dirname(os.path.abspath(python)) == os.path.dirname(os.path.abspath(sys.executable))


def ask(context: "SparkContext", packages: tuple[str, ...]) -> list[tuple[str, str, list[str]]]:
    """Host, Python and what is lacking there, of the executors that answer."""

    # Nested, so that Spark carries the code itself: an executor may lack this package, and numpy.
    def look(_: int) -> tuple[str, str, list[str]]:
        import importlib.util
        import socket
        import sys

        return socket.gethostname(), sys.executable, [name for name in packages if importlib.util.find_spec(name) is None]

    slots = max(context.defaultParallelism, 1)
    return context.parallelize(range(slots), slots).map(look).collect()
