"""A function of the user's, on MPI ranks."""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore.training.job import JOB
from spark_bridge.launch import Launch
from spark_bridge.rank_function import FUNCTION, RESULT

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["print_log", "run"]


def run(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    num_workers: int | None = None,
    spark: "SparkSession | None" = None,
    *,
    env: Mapping[str, str] | None = None,
    show_logs: bool = False,
) -> list[Any]:
    """Run ``fn(*args, **kwargs)`` on MPI ranks, one for each executor or task slot, and return the results in rank order.

    In it ``dkcore.init()`` is the world, and mpi4py works. The function, its arguments and its result are pickled by cloudpickle.
    num_workers: None takes all slots. spark: the active session by default. env: variables for the ranks. show_logs: print what
    ranks print, as it comes.

    RankError when a rank raised or died: its traceback and the end of its log are in the message. ValueError with too few slots.
    """
    from pyspark import cloudpickle

    dumps: Callable[[Any], bytes] = cloudpickle.dumps  # which has no types
    with tempfile.TemporaryDirectory(prefix=JOB[1:]) as directory:
        files = {FUNCTION: dumps((fn, tuple(args), dict(kwargs or {})))}
        launch = Launch(
            session(spark), Path(directory), num_workers, files,
            function=True, environment=dict(env or {}), on_log=print_log if show_logs else None,
        )  # fmt: skip
        launch.run()
        results = [Path(directory, RESULT.format(rank)).read_bytes() for rank in range(launch.size)]
    return [cloudpickle.loads(result) for result in results]


def session(spark: "SparkSession | None") -> "SparkSession":
    """The session that is given, or the active one, or the process' own, or a new one.

    A thread of its own, and a notebook after an interrupt, has no active one.
    """
    from pyspark.sql import SparkSession

    return spark or SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()


def print_log(rank: int, line: str) -> None:
    print(f"[rank {rank}] {line}", file=sys.stderr)
