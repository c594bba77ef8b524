"""One barrier stage that runs MPI ranks, as the driver sees it: how they are placed, and why they failed."""

import builtins
import contextlib
import logging
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore import errors
from dkcore.errors import MissingError, RankError, expected
from dkcore.failure import explain
from dkcore.status import FOLDER, LOGS, read_statuses
from dkcore.trainers import search_paths
from spark_bridge.channel import Channel
from spark_bridge.preflight import alike, refuse_cluster, slots

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["Launch"]

SCHEMA = "rank bigint, host string, rows bigint"
CANCELLED = re.compile(r"Job \d+ cancelled")  # by the user: what the ranks then say is no reason
OWN = re.compile(r"^(?:RuntimeError|dkcore\.errors\.(\w+)): (Expected .*)$", re.MULTILINE)
PRECEDENCE = {kind: place for place, kind in enumerate(["mpiexec", "proxy", "severed", "silent", "failed", "dead"])}  # causes, consequences
AT_ONCE = 1.0  # seconds: a rank that raises takes others along, whose end may be seen before its word

logger = logging.getLogger(__name__)


@dataclass
class Launch:
    """The ranks of one job under Spark.

    Attributes:
        spark: a classic session (no Spark Connect).
        directory: the job's, on the driver; the ranks' files come into it.
        ranks: None takes all slots; then the number.
        files: of each rank's own directory, by name.
        function: whether they hold a function, for `spark_bridge.run`, rather than a job.
        backend: of Keras, None when there is none. shared_bytes: what the center takes. environment: variables for the ranks.
        on_log: called with (rank, line) while ranks print.
        placement: afterwards, in words, where the ranks were put.
    """

    spark: "SparkSession"
    directory: Path
    ranks: int | None
    files: dict[str, bytes]
    function: bool = False
    backend: str | None = None
    shared_bytes: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    on_log: Callable[[int, str], None] | None = None
    mpi: str = "mpich"
    placement: str = ""

    def __post_init__(self):
        if getattr(self.spark, "_jsc", None) is None and not hasattr(self.spark, "sparkContext"):
            advice = "Spark Connect's client cannot be reached by the ranks: run the script with spark-submit."
            raise MissingError(expected("a classic SparkSession", "one of Spark Connect", advice))
        wanted = refuse_cluster(self.spark, self.ranks)
        self.profile, self.placement = self.place(slots(self.spark))
        self.ranks = wanted if self.profile is None else refuse_cluster(self.spark, self.ranks, self.profile)
        logger.info("%d ranks: %s", self.ranks, self.placement)

    def place(self, whole: int) -> tuple[Any, str]:
        """A resource profile under which an executor takes one task, where the master knows such; and what that comes to, in words."""
        context = self.spark.sparkContext
        executors = sizes(context)
        if not executors or whole <= len(executors):
            return None, "one rank for each task slot" + (", which is one for each executor" if executors else "")
        if (self.ranks or 0) > len(executors):
            return None, f"one rank for each task slot, for {self.ranks} ranks are more than the {len(executors)} executors"
        master = context.master
        if master.startswith("local") or tuple(map(int, context.version.split(".")[:2])) < (4, 0):
            why = f"master {master}" if master.startswith("local") else f"Spark {context.version}"
            return None, f"one rank for each task slot, for {why} does not place tasks by executor"
        from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

        requests = TaskResourceRequests().cpus(max(executors) // 2 + 1)
        gpus = context.getConf().get("spark.task.resource.gpu.amount")
        if gpus is not None:  # a profile's tasks get what it names, and nothing else
            requests = requests.resource("gpu", float(gpus))
        return ResourceProfileBuilder().require(requests).build, "one rank for each executor"

    def run(self, frame: "DataFrame | None" = None, columns: dict | None = None) -> list[dict[str, Any]]:
        """Run the ranks on a frame of as many partitions (None: no data), and return what each did, in rank order.

        RankError when a rank raised, exited or was killed, or its proxy, its executor or mpiexec was; what `examine` and the data
        raise; Spark's own error when its job was cancelled. Nothing of the ranks is left then.
        """
        context = self.spark.sparkContext
        conf = context.getConf()
        host = conf.get("spark.driver.host")
        tag = f"dkcore-{secrets.token_hex(6)}"
        if frame is None:
            frame = self.spark.range(0, self.ranks, 1, self.ranks)
        bound = conf.get("spark.driver.bindAddress", host)
        files = context.broadcast(self.files)
        try:
            with Channel(self.directory, bound, int(conf.get("spark.dkcore.port", "0")), self.on_log) as channel:
                plan = {
                    "address": (host, channel.port), "key": channel.key, "mpi": self.mpi, "function": self.function,
                    "environment": self.environment, "columns": columns, "backend": self.backend, "follow": self.on_log is not None,
                    "shared_bytes": self.shared_bytes, "versions": alike(self.backend),
                    "paths": search_paths(),
                    "keep_threads": conf.contains("spark.executorEnv.OMP_NUM_THREADS"),
                }  # fmt: skip
                context.addJobTag(tag)
                try:
                    told = self.stage(frame, plan, files).collect()
                except BaseException as error:
                    with contextlib.suppress(Exception):  # the session may be gone
                        context.cancelJobsWithTag(tag)
                    channel.end()
                    channel.await_all()
                    cancelled = CANCELLED.search(str(error)) is not None
                    if isinstance(error, Exception) and not cancelled and (reason := self.verdict(channel, error)) is not None:
                        raise reason from None
                    raise
                finally:
                    with contextlib.suppress(Exception):  # likewise
                        context.removeJobTag(tag)
        finally:
            with contextlib.suppress(Exception):  # likewise
                files.destroy()
        return sorted((row.asDict() for row in told), key=lambda row: row["rank"])

    def stage(self, frame: "DataFrame", plan: dict, files: Any) -> "DataFrame":
        profile = {} if self.profile is None else {"profile": self.profile}

        # Nested, so that Spark carries the code itself: an executor that lacks the package can then say so.
        def begin(batches: Iterator) -> Iterator:
            import socket

            try:
                from spark_bridge import task
            except ImportError as error:
                help = "Install dkcore on all executors, or ship it with --archives (docs/spark.md)."
                text = f"Expected dkcore on executor {socket.gethostname()}. Received: {error}. {help}"
                raise RuntimeError(text) from error
            yield from task.run(plan, files.value, batches)

        return frame.mapInArrow(begin, SCHEMA, barrier=True, **profile)

    def verdict(self, channel: Channel, error: Exception) -> Exception | None:
        """The error that the tasks' news come to; None when they had none but Spark's own."""
        for _, kind, header in channel.news:
            if kind == "refused":
                return raised(header["type"], header["text"])
        bad = [news for news in channel.news if news[1] != "hello"]
        if not bad:
            told = OWN.search(str(error))  # by a task that could not reach us, or that lacks the package
            return raised(told[1] or "MissingError", told[2]) if told else None
        began, kind, header = min(bad, key=lambda news: (PRECEDENCE.get(news[1], len(PRECEDENCE)), news[2].get("since", news[0])))
        statuses = read_statuses(self.directory)
        (self.directory / FOLDER).mkdir(exist_ok=True)
        (self.directory / LOGS).mkdir(exist_ok=True)
        (self.directory / LOGS / "mpiexec.log").touch()
        reason, lost = header.get("text") or "", None
        if kind == "severed":
            reason = f"the task of rank {header['rank']} on {header['host']} gone: was its executor killed, or its way to the driver cut?"
        if not reason and header["rank"] in statuses:
            lost = header.get("since", began) + AT_ONCE, [header["rank"]]
        explained = explain(statuses, self.ranks, lost, reason, None, self.directory)
        received = f"{kind} of rank {header['rank']}"
        return explained or RankError(expected(f"{self.ranks} ranks to end well", received, "See the executors' logs."))


def sizes(context: Any) -> list[int]:
    """The cores of each executor; empty in local mode, where the driver is the only one."""
    java = context._jsc.sc()
    executors = java.statusStore().executorList(True)
    found = [executors.apply(index) for index in range(executors.size())]
    return [executor.totalCores() for executor in found if executor.id() != "driver"]


def raised(kind: str, text: str) -> Exception:
    """An error of a task, as one of the same class here if that is one of ours or a plain one."""
    known = getattr(errors, kind, None) or (getattr(builtins, kind, None) if kind in ("ValueError", "TypeError", "OSError") else None)
    return known(text) if known is not None else RankError(f"{kind}: {text}")
