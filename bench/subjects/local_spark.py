"""``local[2]`` for both sides of a comparison: the same settings, and everything on loopback.

Needs PySpark only, for it runs in the environments of peers too.
"""

import os
import sys
import tempfile

__all__ = ["MASTER", "session"]

MASTER = "local[2]"
SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "2g",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}


def session(stack):
    """A session of this interpreter, which ends with the stack."""
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"  # elephas' server listens there, too
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(MASTER).appName("dkcore-bench")
    warehouse = stack.enter_context(tempfile.TemporaryDirectory(prefix="dkcore-bench-"))
    for name, value in {**SETTINGS, "spark.sql.warehouse.dir": warehouse}.items():
        builder = builder.config(name, value)
    made = builder.getOrCreate()
    made.sparkContext.setLogLevel("OFF")
    stack.callback(made.stop)
    return made
