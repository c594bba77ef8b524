"""Spark: DataFrames straight into MPI ranks, one rank an executor, in barrier mode."""
