"""One barrier stage that runs MPI ranks, as the driver sees it: how they are placed, and why they failed."""

import builtins
import contextlib
import logging
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore import errors
from dkcore.errors import DataError, MissingError, expected
from dkcore.launch.diagnosis import explain, rank_error
from dkcore.launch.launch import search_paths
from dkcore.ranks.status import FOLDER, LOGS, StatusDirectory
from spark_bridge.channel import Channel
from spark_bridge.preflight import alike, slots, validate_cluster
from spark_bridge.pythons import require
from spark_bridge.task_plan import TaskPlan

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["Launch"]

SCHEMA = "rank bigint, host string, rows bigint"
CANCELLED = re.compile(r"Job \d+ cancelled")  # by the user: what the ranks then say is no reason
OWN = re.compile(r"^(?:RuntimeError|dkcore\.errors\.(\w+)): (Expected .*)$", re.MULTILINE)
RAISED = re.compile(r"(?:USER_RAISED_EXCEPTION\] |RuntimeException: )(Expected .*?)(?: SQLSTATE.*)?$", re.M)  # by columns' own checks
CAUSES = ("mpiexec", "proxy", "connection_lost", "silent", "failed", "dead")  # and then consequences
PRECEDENCE = {kind: place for place, kind in enumerate(CAUSES)}
AT_ONCE = 1.0  # seconds: a rank that raises takes others along, whose end may be seen before its word

logger = logging.getLogger(__name__)


@dataclass
class Launch:
    """The ranks of one job under Spark.

    Attributes:
        spark: a classic session (no Spark Connect).
        directory: the job's, on the driver; the ranks' files come into it.
        ranks: how many to start; None takes all slots. size: afterwards, how many they are.
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

    size: int = field(init=False)

    def __post_init__(self) -> None:
        if getattr(self.spark, "_jsc", None) is None and not hasattr(self.spark, "sparkContext"):
            advice = "Spark Connect's client cannot be reached by the ranks: run the script with spark-submit."
            raise MissingError(expected("a classic SparkSession", "one of Spark Connect", advice))
        wanted = validate_cluster(self.spark, self.ranks)
        require(self.spark)
        self.profile, self.placement = self.place(slots(self.spark))
        self.size = wanted if self.profile is None else validate_cluster(self.spark, self.ranks, self.profile)
        logger.info("%d ranks: %s", self.size, self.placement)

    def place(self, whole: int) -> tuple[Any, str]:
        """A resource profile under which an executor takes one task, where the master knows such; and what that comes to, in words."""
        context = self.spark.sparkContext
        executors = sizes(context)
        if not executors or whole <= len(executors):
            return None, "one rank for each task slot" + (", which is one for each executor" if executors else "")
        if (self.ranks or 0) > len(executors):
            return None, f"one rank for each task slot, for {self.ranks} ranks are more than the {len(executors)} executors"
        master = context.master or ""
        if master.startswith("local") or tuple(map(int, context.version.split(".")[:2])) < (4, 0):
            why = f"master {master}" if master.startswith("local") else f"Spark {context.version}"
            return None, f"one rank for each task slot, for {why} does not place tasks by executor"
        from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

        requests = TaskResourceRequests().cpus(max(executors) // 2 + 1)
        gpus = context.getConf().get("spark.task.resource.gpu.amount")
        if gpus is not None:  # a profile's tasks get what it names, and nothing else
            requests = requests.resource("gpu", float(gpus))
        return ResourceProfileBuilder().require(requests).build, "one rank for each executor"

    def run(self, frame: "DataFrame | None" = None, columns: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run the ranks on a frame of as many partitions (None: no data), and return what each did, in rank order.

        RankError when a rank raised, exited or was killed, or its proxy, its executor or mpiexec was; what `examine` and the data
        raise; Spark's own error when its job was cancelled. Nothing of the ranks is left then.
        """
        context = self.spark.sparkContext
        conf = context.getConf()
        host = conf.get("spark.driver.host", "localhost")
        if frame is None:
            frame = self.spark.range(0, self.size, 1, self.size)
        bound = conf.get("spark.driver.bindAddress", host)
        files = context.broadcast(self.files)
        try:
            with Channel(self.directory, bound, int(conf.get("spark.dkcore.port", "0")), self.on_log) as channel:
                plan = TaskPlan(
                    (host, channel.port), channel.key, self.mpi, self.function, self.environment, frame.columns, columns, self.backend,
                    follow=self.on_log is not None, shared_bytes=self.shared_bytes, versions=alike(self.backend), paths=search_paths(),
                    keep_threads=conf.contains("spark.executorEnv.OMP_NUM_THREADS"),
                )  # fmt: skip
                rows = self.collect(self.stage(frame, plan, files), channel)
        finally:
            with contextlib.suppress(Exception):  # the session may be gone
                files.destroy()
        return sorted((row.asDict() for row in rows), key=lambda row: row["rank"])

    def collect(self, stage: "DataFrame", channel: Channel) -> list[Any]:
        """What the tasks return. However it ends, they have ended then: a tag of their own cancels them."""
        context, tag = self.spark.sparkContext, f"dkcore-{secrets.token_hex(6)}"
        context.addJobTag(tag)
        try:
            return stage.collect()
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

    def stage(self, frame: "DataFrame", task_plan: TaskPlan, files: Any) -> "DataFrame":
        plan = asdict(task_plan)
        profile = {} if self.profile is None else {"profile": self.profile}

        # Nested, so that Spark carries the code itself: an executor that lacks the package can then say so.
        def begin(batches: Iterator[Any]) -> Iterator[Any]:
            import socket

            try:
                from spark_bridge import task
            except ImportError as error:
                help = "Install dkcore on all executors, or ship it with --archives (docs/spark.md)."
                text = f"Expected dkcore on executor {socket.gethostname()}. Received: {error}. {help}"
                raise RuntimeError(text) from error
            yield from task.run(task.TaskPlan(**plan), files.value, batches)

        # Spark takes dots in names for fields of structs on this way.
        numbered = frame.toDF(*(f"column {place}" for place in range(len(frame.columns))))
        return numbered.mapInArrow(begin, SCHEMA, barrier=True, **profile)

    def verdict(self, channel: Channel, error: Exception) -> Exception | None:
        """The error that the tasks' news come to; None when they had none but Spark's own."""
        for _, kind, header in channel.news:
            if kind == "refused":
                return raised(header["type"], header["text"], sender(header), header.get("trace", ""))
        bad = [news for news in channel.news if news[1] != "hello"]
        if not bad:
            found = OWN.search(str(error))  # by a task that could not reach us, or that lacks the package
            if found is None and (bad_value := RAISED.search(str(error))):
                return DataError(bad_value[1])
            return raised(found[1] or "MissingError", found[2]) if found else None
        began, kind, header = min(bad, key=lambda news: (PRECEDENCE.get(news[1], len(PRECEDENCE)), news[2].get("since", news[0])))
        statuses = StatusDirectory(self.directory).ranks()
        (self.directory / FOLDER).mkdir(exist_ok=True)
        (self.directory / LOGS).mkdir(exist_ok=True)
        (self.directory / LOGS / "mpiexec.log").touch()
        reason, lost = header.get("text") or "", None
        if kind == "connection_lost":
            reason = f"{sender(header)}: its task is gone. Was its executor killed, or its connection to the driver lost?"
        if not reason and header["rank"] in statuses:
            lost = header.get("since", began) + AT_ONCE, [header["rank"]]
        explained = explain(statuses, self.size, lost, reason, None, self.directory)
        return explained or rank_error(f"{sender(header)}: {kind}. See the executors' logs.", "The job failed.", [], header["rank"])


def sizes(context: Any) -> list[int]:
    """The cores of each executor; empty in local mode, where the driver is the only one."""
    java = context._jsc.sc()
    executors = java.statusStore().executorList(True)
    found = [executors.apply(index) for index in range(executors.size())]
    return [executor.totalCores() for executor in found if executor.id() != "driver"]


def sender(header: dict[str, Any]) -> str:
    """Of a task's news."""
    return f"rank {header['rank']} on {header['host']}"


def raised(kind: str, text: str, where: str = "", trace: str = "") -> Exception:
    """An error of a task, as one of the same class here if that is one of ours or a plain one. where: its rank and host."""
    known = getattr(errors, kind, None) or (getattr(builtins, kind, None) if kind in ("ValueError", "TypeError", "OSError") else None)
    if known is None:
        return rank_error(f"{where}: {kind}: {text}", f"{where} failed.", [trace])
    error: Exception = known(f"{trace}\n{text}".strip())
    return error
