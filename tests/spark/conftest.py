"""For the tests on Spark: one real cluster of two slots in this process, and a Java that it runs on."""

import pytest
from spark_settings import prepare, settings


@pytest.fixture(scope="session")
def spark_environment():
    """The environment that the driver's Java, and so all of Spark, starts with."""
    prepare()


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
