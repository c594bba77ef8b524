"""What one task of the barrier stage does: stores its partition, runs one MPI rank, tells the driver, leaves nothing behind.

Design:
(a) No two ranks share a directory, for executors may share no file system: each task makes one, and its files go to the driver.
(b) mpiexec runs beside task 0, told to start nothing itself ("manual"): it prints for each rank the command of its proxy, which
    that rank's task runs as its own child. So no ssh, and each rank lives and dies with its executor.
(c) The reaper is there before there is anything to reap, and waits for its command at a named pipe: whatever kills this
    process, it removes the processes, the shared memory and the directory.
"""

import contextlib
import json
import os
import secrets
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pyspark import BarrierTaskContext

from dkcore.errors import DkcoreError, expected
from dkcore.launch.launch import importable, prepare
from dkcore.launch.mpi import find_mpi
from dkcore.launch.reaped_command import ReapedCommand
from dkcore.ranks.abort import printed
from dkcore.ranks.reaper import Plan
from dkcore.ranks.status import DIRECTORY, FOLDER, LOGS, OUTPUT
from spark_bridge.channel import Line
from spark_bridge.monitor import EndedError, Monitor
from spark_bridge.preflight import compare, examine
from spark_bridge.task_plan import TaskPlan

if TYPE_CHECKING:
    from pyarrow import RecordBatch

__all__ = ["RefusedError", "TaskPlan", "run"]

COMMAND = "DKCORE_RANK"  # in a proxy's environment: how its rank is started on this host
LINE, END = "HYDRA_LAUNCH: ", "HYDRA_LAUNCH_END"
STARTING = 60.0  # seconds for mpiexec to tell its commands


class RefusedError(Exception):
    """What this task, or another one, found wrong before ranks were started; the driver knows it."""


def run(plan: TaskPlan, files: dict[str, bytes], batches: "Iterator[RecordBatch]") -> "Iterator[RecordBatch]":
    """Run this task's rank, and yield one Arrow batch that says what it did.

    files: the job's directory, by name. batches: this task's partition.
    """
    import pyarrow

    context = BarrierTaskContext.get()
    rank, host = context.partitionId(), socket.gethostname()
    line = Line(plan.address, plan.key, rank=rank, ranks=len(context.getTaskInfos()), host=host)
    try:
        with Task(plan, context, line) as task:
            task.together(lambda: examine(plan), compare)
            rows = task.store(files, batches)
            task.begin()
            task.monitor.stay()
            task.deliver(set(files))
        yield pyarrow.RecordBatch.from_pylist([{"rank": rank, "host": host, "rows": rows}])
    finally:
        line.close()


class Task:
    """A rank's directory and what is started for it; a context manager that leaves none of it."""

    def __init__(self, plan: TaskPlan, context: BarrierTaskContext, line: Line):
        self.plan, self.context, self.line = plan, context, line
        self.rank, self.ranks = context.partitionId(), len(context.getTaskInfos())
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> "Task":
        self.directory = Path(tempfile.mkdtemp(prefix="dkcore-spark-", dir=local_folder()))
        self.stack.callback(shutil.rmtree, self.directory, ignore_errors=True)  # the reaper may have done it
        self.monitor = Monitor(self.directory, self.rank, self.line, follow=self.plan.follow)
        try:
            mark, scratch, self.pipe = prepare(self.directory), self.directory / "scratch", self.directory / "command"
            scratch.mkdir()
            os.mkfifo(self.pipe)
            self.mpi = find_mpi(self.plan.mpi)
            waits = ["/bin/sh", "-c", 'read -r line < "$0"; eval "exec $line"', str(self.pipe)]
            plan = Plan(waits, str(self.directory), mark, str(scratch), launcher=os.getpid(), temporary=True)
            self.monitor.proxy = self.reaped(plan, self.environment(scratch), self.directory / LOGS / "proxy.log")
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is not None and not isinstance(error, EndedError | RefusedError | GeneratorExit):
                text = "" if isinstance(error, DkcoreError) else printed(error)
                self.monitor.report("refused", type=type(error).__name__, text=str(error), trace=text)
            self.monitor.stop()
            if error is not None:
                self.monitor.tell()
        finally:
            self.stack.close()

    def reaped(self, plan: Plan, environment: dict[str, str], log: Path) -> ReapedCommand:
        """Start a command, which prints into the log. Its reaper holds the line: the driver sees when nothing is left."""
        with log.open("wb") as file:
            return ReapedCommand(plan, environment, stdout=file, stderr=file, pass_fds=[self.line.fileno()])

    def environment(self, scratch: Path) -> dict[str, str]:
        """What the rank starts with: this executor's environment, its own GPUs, the modules that Spark brought along."""
        clean = self.mpi.environment(os.environ, str(scratch))
        if not self.plan.keep_threads:
            clean.pop("OMP_NUM_THREADS", None)  # Spark's own idea, which knows nothing of the node's other ranks
        paths = dict.fromkeys([*sys.path, *self.plan.paths])
        clean["PYTHONPATH"] = os.pathsep.join(path for path in paths if os.path.exists(path))
        if gpus := self.context.resources().get("gpu"):
            clean["CUDA_VISIBLE_DEVICES"] = ",".join(gpus.addresses)
        target = str(self.directory)
        if self.plan.function:
            from spark_bridge import rank_function

            target = rank_function.__file__
        start = shlex.join([sys.executable, "-m", "mpi4py", "-m", "dkcore.worker", target])
        ours = {DIRECTORY: str(self.directory), OUTPUT: "logs", COMMAND: f"cd {shlex.quote(os.getcwd())} && exec {start}"}
        return {**importable(clean), **ours, **self.plan.environment}

    def together(self, function: Callable[[], Any], judge: Callable[[list[Any]], None] = lambda answers: None) -> list[Any]:
        """What all tasks' functions return; when one raises, or the judge of all answers does, every task raises RefusedError."""
        answer: dict[str, Any] = {}
        try:
            answer["value"] = function()
        except (DkcoreError, ValueError, TypeError, OSError) as error:
            answer["error"] = [type(error).__name__, str(error)]
        try:
            answers = [json.loads(text) for text in self.line.gather(json.dumps(answer))]
        except (EOFError, ConnectionResetError):
            raise EndedError from None
        wrong = [each["error"] for each in answers if "error" in each]
        if not wrong:
            try:
                judge([each["value"] for each in answers])
            except (DkcoreError, ValueError) as error:
                wrong = [[type(error).__name__, str(error)]]
        if wrong:
            self.line.say("refused", type=wrong[0][0], text=wrong[0][1])
            raise RefusedError(wrong[0][1])
        return [each["value"] for each in answers]

    def store(self, files: dict[str, bytes], batches: "Iterator[RecordBatch]") -> int:
        """Write the job's directory, and this partition into it; how many rows it has."""
        for name, content in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        columns = self.plan.columns
        if columns is None:
            for _ in batches:  # or Spark would end this Python, and the next launch import all of this again
                pass
            return 0
        import pyarrow

        from spark_bridge.ingest import agree, ingest

        batches = (pyarrow.RecordBatch.from_arrays(batch.columns, self.plan.names) for batch in batches)

        def stored() -> dict[str, Any]:
            made = ingest(batches, columns, self.directory / "data", partition=self.rank)
            return self.stack.enter_context(made).result

        rows: int = self.together(stored, agree)[self.rank]["rows"]
        return rows

    def begin(self) -> None:
        """Have mpiexec say how each rank's proxy is started, and start ours."""
        command = self.together(self.commands if self.rank == 0 else list)[0][self.rank]
        program, *arguments = shlex.split(command)
        proxy = [str(Path(self.mpi.mpiexec).with_name(Path(program).name)), *arguments]  # where this host has it
        with open(self.pipe, "r+b", buffering=0) as pipe:  # for reading too: that never waits
            pipe.write(f"{shlex.join(proxy)}\n".encode())
            self.monitor.await_rank()

    def commands(self) -> list[str]:
        """Start mpiexec; the commands of all proxies."""
        hosts = ",".join(f"t{rank}" for rank in range(self.ranks))  # mpiexec only prints these names
        reached = ["-localhost", self.line.address, "-genvnone", "-wdir", "/", "-hosts", hosts, "-ppn", "1", "-n", str(self.ranks)]
        command = [self.mpi.mpiexec, "-launcher", "manual", *reached, "/bin/sh", "-c", f'eval "${COMMAND}"']
        home, log = self.directory / "mpiexec", self.directory / LOGS / "mpiexec.log"
        (home / FOLDER).mkdir(parents=True)
        (home / "scratch").mkdir()
        scratch = str(home / "scratch")
        plan = Plan(command, str(home), secrets.token_hex(8), scratch, variable="DKCORE_MPIEXEC", launcher=os.getpid())
        mpiexec = self.monitor.mpiexec = self.reaped(plan, self.mpi.environment(os.environ, scratch), log)
        deadline = time.monotonic() + STARTING
        while END not in (text := log.read_text()):
            if not mpiexec.alive or time.monotonic() > deadline:
                what = f"mpiexec to tell how to start its proxies within {STARTING:g} s"
                raise DkcoreError(expected(what, text, "It has to be MPICH's."))
            time.sleep(0.01)
        return [line.removeprefix(LINE) for line in text.splitlines() if line.startswith(LINE)]

    def deliver(self, known: set[str]) -> None:
        """Send everything that the rank made."""
        self.monitor.tell()
        for path in sorted(self.directory.iterdir()):
            if path.is_file() and path.name not in known | {"center"}:
                self.line.replace(path, path.name)


def local_folder() -> str | None:
    """Where Spark wants this executor's temporary files."""
    folders = os.environ.get("SPARK_LOCAL_DIRS") or os.environ.get("LOCAL_DIRS") or ""
    return next((folder for folder in folders.split(",") if os.path.isdir(folder)), None)
