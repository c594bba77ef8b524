"""A DataFrame as training data: a source as `dkcore.training.sources` describes it."""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore.errors import RankError, expected
from dkcore.ranks.status import FOLDER, LOGS
from dkcore.training import results
from dkcore.training.job import JOB, Job
from spark_bridge.checkpoints import Gathering
from spark_bridge.columns import Columns
from spark_bridge.launch import Launch
from spark_bridge.ranks import print_log

if TYPE_CHECKING:
    import keras
    import pyarrow
    from pyspark.sql import DataFrame, SparkSession

    from dkcore.training.sources import Request

__all__ = ["arrays_of", "train", "validate_placement"]

RECORDS, ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch", 1000
BARRIER_CHAIN = "SPARK-24820"  # in Spark's error for coalesce, union or limit within a barrier stage; nothing has run then

logger = logging.getLogger(__name__)


def arrays_of(request: "Request") -> None:
    """None: only the ranks have the rows."""


def train(request: "Request", _: None = None) -> tuple["keras.Model", dict[str, Any], "pyarrow.Table"]:
    """Train on the rows of a DataFrame, in ranks on the executors; the trained model, the report and the history."""
    import keras

    job, frame, validation, floats = request.job, request.data, request.validation, keras.config.floatx()
    validate_placement(request)
    columns = Columns(*request.columns, request.weight_col).of(request.model)
    chosen = columns.project(frame, validation, job.seed, floats=floats)
    with tempfile.TemporaryDirectory(prefix=JOB[1:]) as name:
        directory = Path(name)
        files = files_of(job, request.model, directory)
        launch = Launch(
            frame.sparkSession, directory, job.workers, files,
            backend=job.backend, shared_bytes=bytes_of(request.model, job), on_log=print_log if request.show else None,
        )  # fmt: skip
        chosen = spread(frame, chosen, launch.size)
        plan = columns.plan(validation, job.seed, floats=floats)
        wanted = request.max_restarts > 0 or job.checkpoint is not None or job.resume is not None
        gathering = Gathering(job, directory, launch.files) if wanted else None
        with small_batches(frame.sparkSession), gathering or contextlib.nullcontext():
            restarts = run(launch, chosen, plan, request.max_restarts, gathering)
        report, history = results.collect(job)
        report |= gathering.report() if gathering is not None else {}
        return results.trained_model(job), report | {"restarts": restarts, "placement": launch.placement}, history


def validate_placement(request: "Request") -> None:
    """ValueError for settings that say where ranks are put, or by which MPI: with a DataFrame Spark puts them on its executors."""
    given = {"hosts": request.hosts, "directory": request.directory, "mpi": None if request.mpi in ("auto", "mpich") else request.mpi}
    if request.job.on_node_loss != "stop":
        given["on_node_loss"] = request.job.on_node_loss
    for name, value in given.items():
        if value is not None:
            advice = "Spark puts the ranks on its executors, with MPICH; max_restarts is for those that are lost."
            raise ValueError(expected(f"no {name} for a DataFrame", f"{name}={value!r}", advice))


@contextlib.contextmanager
def small_batches(spark: "SparkSession") -> Iterator[None]:
    """Spark hands 10,000 rows at once to Python, whatever their size: fewer of them take less memory, and less time."""
    before = spark.conf.get(RECORDS) or "10000"
    spark.conf.set(RECORDS, str(min(int(before), ROWS) if int(before) > 0 else ROWS))
    try:
        yield
    finally:
        spark.conf.set(RECORDS, before)


def run(launch: Launch, frame: "DataFrame", columns: dict[str, Any], restarts: int, gathering: Gathering | None) -> int:
    """Run the ranks, again from the last checkpoint when they fail; how often that was. RankError when it was too often."""
    for attempt in range(restarts + 1):
        try:
            run_once(launch, frame, columns)
            return attempt
        except RankError as error:
            if attempt == restarts:
                raise
            logger.warning("Restart %d of %d, from the last checkpoint, after: %s", attempt + 1, restarts, error.cause or error)
        for folder in (FOLDER, LOGS):
            shutil.rmtree(launch.directory / folder, ignore_errors=True)
        if gathering is not None:
            gathering.restart()
    raise AssertionError("the loop returns or raises")


def run_once(launch: Launch, frame: "DataFrame", columns: dict[str, Any]) -> None:
    """Run the ranks; after a shuffle, if the partitions came about in a way that a barrier stage cannot repeat."""
    try:
        launch.run(frame, columns)
    except Exception as error:
        if BARRIER_CHAIN not in str(error):
            raise
        launch.run(frame.repartition(launch.size), columns)


def files_of(job: Job, model: "keras.Model", directory: Path) -> dict[str, bytes]:
    """What each rank's directory begins with: settings, model, and the files of modules, which executors do not have."""
    named = {module: f"modules/{Path(module).name}" for module in job.modules if module.endswith(".py")}
    modules, job.modules = job.modules, [named.get(module, module) for module in job.modules]
    job.save(directory)
    job.modules = modules
    model.save(directory / job.model)
    own = {name: (directory / name).read_bytes() for name in ("job.json", job.model)}
    return own | {name: Path(module).read_bytes() for module, name in named.items()}


def bytes_of(model: "keras.Model", job: Job) -> int:
    """Of the center and its states in shared memory, at least."""
    import keras

    itemsize = 8 if keras.config.floatx() == "float64" else 4
    return int(model.count_params()) * itemsize * (1 + len(job.the_rule.states))


def spread(given: "DataFrame", chosen: "DataFrame", ranks: int) -> "DataFrame":
    """The rows in as many partitions as ranks, of about the same size; a cached DataFrame that has as many is not shuffled."""
    level = given.storageLevel
    cached = level.useMemory or level.useDisk
    return chosen if cached and chosen.rdd.getNumPartitions() == ranks else chosen.repartition(ranks)
