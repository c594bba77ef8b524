"""Spark: DataFrames straight into MPI ranks, one rank an executor, in barrier mode."""

from spark_bridge.run import run

__all__ = ["run"]
