"""For the tests on Spark: one real cluster of two slots in this process, and a Java that it runs on."""

import os
import sys

import pytest
from spark_settings import QUICK, ROOT, SHARED, java_home, settings, shared_classes


@pytest.fixture(scope="session")
def spark_environment():
    """The environment that the driver's Java, and so all of Spark, starts with."""
    home = java_home()
    if home:
        os.environ["JAVA_HOME"] = home
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("JDK_JAVA_OPTIONS", f"{QUICK} {SHARED.format(shared_classes())}")


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
