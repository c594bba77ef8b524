"""What one task of the barrier stage does: stores its partition, runs one MPI rank, tells the driver, leaves nothing behind.

Design:
(a) No two ranks share a directory, for executors may share no file system: each task makes one, and its files go to the driver.
(b) mpiexec runs beside task 0, told to start nothing itself ("manual"): it prints for each rank the command of its proxy, which
    that rank's task runs as its own child. So no ssh, and each rank lives and dies with its executor.
(c) The guard (dkcore/guard.py) is there before there is anything to guard, and waits for its command at a named pipe: whatever
    kills this process, it removes the processes, the shared memory and the directory.
"""

import contextlib
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from select import select
from typing import Any

from pyspark import BarrierTaskContext

from dkcore import guard
from dkcore.errors import DkcoreError, expected
from dkcore.launch import importable, prepare
from dkcore.mpi import find_mpi
from dkcore.status import FOLDER, LOGS, birth, read_statuses
from dkcore.worker import DIRECTORY, OUTPUT
from spark_bridge.channel import Line
from spark_bridge.preflight import compare, examine

__all__ = ["Refusal", "run"]

COMMAND = "DKCORE_RANK"  # in a proxy's environment: how its rank is started on this host
END = "HYDRA_LAUNCH_END"
RENDEZVOUS = 60.0  # seconds for mpiexec to tell its commands, and for a rank to have joined
TICK = 0.1  # seconds
WORD = 0.5  # seconds for a guard to say that its command was killed
STOPPING = 8.0  # seconds for a guard to take everything down
CHECKPOINT = "checkpoint.npz"  # dkcore.checkpoint.FILE, without Keras


class Refusal(Exception):
    """What another task, or this one, found wrong before ranks were started."""


class EndedError(Exception):
    """The driver has ended this job, or is gone; it knows why."""


def run(plan: dict, files: dict[str, bytes], batches: Iterator) -> Iterator:
    """Run this task's rank, and yield one Arrow batch that says what it did.

    plan: plain data, see `spark_bridge.launch`. files: the job's directory, by name. batches: this task's partition.
    """
    import pyarrow

    context = BarrierTaskContext.get()
    rank = context.partitionId()
    line = Line(tuple(plan["address"]), plan["key"], rank=rank, host=socket.gethostname())
    try:
        with Task(plan, context, line) as task:
            task.together(lambda: examine(plan), compare)
            rows = task.store(files, batches)
            task.begin()
            task.watch()
            task.deliver(set(files))
        yield pyarrow.RecordBatch.from_pylist([{"rank": rank, "host": socket.gethostname(), "rows": rows}])
    finally:
        line.close()


class Task:
    """A rank's directory, guards and line; a context manager that leaves none of them."""

    def __init__(self, plan: dict, context: BarrierTaskContext, line: Line):
        self.plan, self.context, self.line = plan, context, line
        self.rank, self.ranks = context.partitionId(), len(context.getTaskInfos())
        self.stack, self.guards, self.mpiexec = contextlib.ExitStack(), [], None

    def __enter__(self) -> "Task":
        self.directory = Path(tempfile.mkdtemp(prefix="dkcore-spark-", dir=local_folder()))
        self.stack.callback(shutil.rmtree, self.directory, ignore_errors=True)  # a guard may have done it
        try:
            self.mark, self.scratch = prepare(self.directory), self.directory / "scratch"
            self.scratch.mkdir()
            self.mpi = find_mpi(self.plan["mpi"])
            self.pipe = self.directory / "command"
            os.mkfifo(self.pipe)
            waits = ["/bin/sh", "-c", 'read -r line < "$0"; eval "exec $line"', str(self.pipe)]
            self.guard = self.guarded(waits, self.environment(), self.directory, guard.MARK, self.mark, self.scratch)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if error is not None and not isinstance(error, EndedError | Refusal):
                self.report("refused", type=kind.__name__, text=f"{error}\n{''.join(traceback.format_tb(trace))}".strip())
            for process, plan in self.guards:
                stop(process, plan)
            if error is not None:
                self.tell()
        finally:
            self.stack.close()

    def environment(self) -> dict[str, str]:
        """What the rank starts with: this executor's environment, its own GPUs, the modules that Spark brought along."""
        clean = self.mpi.environment(os.environ, str(self.scratch))
        if not self.plan["keep_threads"]:
            clean.pop("OMP_NUM_THREADS", None)  # Spark's own idea, which knows nothing of the node's other ranks
        clean["PYTHONPATH"] = os.pathsep.join(path for path in dict.fromkeys([*sys.path, *self.plan["paths"]]) if os.path.exists(path))
        resources = self.context.resources()
        if "gpu" in resources:
            clean["CUDA_VISIBLE_DEVICES"] = ",".join(resources["gpu"].addresses)
        target = [str(self.directory)]
        if self.plan["function"]:
            from spark_bridge import function

            target = [function.__file__]
        start = [sys.executable, "-m", "mpi4py", "-m", "dkcore.worker", *target]
        told = {DIRECTORY: str(self.directory), OUTPUT: "logs", COMMAND: f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(start)}"}
        return {**importable(clean), **told, **self.plan["environment"]}

    def guarded(self, command: list[str], environment: dict, directory: Path, variable: str, mark: str, scratch: Path) -> subprocess.Popen:
        """Start a command under a guard that lives as long as this process, and as the line to the driver."""
        plan = {"launcher": os.getpid(), "mark": mark, "variable": variable, "since": time.time(), "scratch": str(scratch),
                "directory": str(directory), "temporary": directory == self.directory, "command": command}  # fmt: skip
        log = (self.directory / LOGS / ("mpiexec.log" if directory != self.directory else "proxy.log")).open("wb")
        with log:
            settings = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True, "env": environment}
            call = [sys.executable, "-I", "-S", guard.__file__, json.dumps(plan)]
            process = subprocess.Popen(call, pass_fds=[self.line.fileno()], **settings)
        self.guards.append((process, plan))
        return process

    def together(self, function: Callable[[], Any], judge: Callable[[list], None] = lambda told: None) -> list:
        """What all tasks' functions return; when one raises, or the judge of all answers does, every task raises a Refusal."""
        answer: dict = {}
        try:
            answer["value"] = function()
        except (DkcoreError, ValueError, TypeError, OSError) as error:
            answer["error"] = [type(error).__name__, str(error)]
        told = [json.loads(text) for text in self.context.allGather(json.dumps(answer))]
        wrong = [each["error"] for each in told if "error" in each]
        if not wrong:
            try:
                judge([each["value"] for each in told])
            except (DkcoreError, ValueError) as error:
                wrong = [[type(error).__name__, str(error)]]
        if wrong:
            self.line.say("refused", type=wrong[0][0], text=wrong[0][1])
            raise Refusal(wrong[0][1])
        return [each["value"] for each in told]

    def store(self, files: dict[str, bytes], batches: Iterator) -> int:
        """Write the job's directory, and this partition into it; how many rows it has."""
        for name, content in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if self.plan["columns"] is None:
            return 0
        from spark_bridge.ingest import agree, ingest

        def stored() -> dict:
            partition = self.stack.enter_context(ingest(batches, self.plan["columns"], self.directory / "data", partition=self.rank))
            return partition.result

        return self.together(stored, agree)[self.rank]["rows"]

    def begin(self) -> None:
        """Have mpiexec say how each rank's proxy is started, and start ours."""
        command = self.together(self.commands if self.rank == 0 else list)[0][self.rank]
        program, *arguments = shlex.split(command)
        proxy = [str(Path(self.mpi.mpiexec).with_name(Path(program).name)), *arguments]  # where this host has it
        with open(self.pipe, "r+b", buffering=0) as pipe:  # for reading too: that never waits
            pipe.write(f"{shlex.join(proxy)}\n".encode())
            self.began = time.monotonic()
            while self.guard.poll() is None and not (self.directory / FOLDER / f"rank-{self.rank}.json").exists():
                self.heed()
                time.sleep(TICK / 10)

    def commands(self) -> list[str]:
        """Start mpiexec; the commands of all proxies."""
        hosts = ",".join(f"t{rank}" for rank in range(self.ranks))  # mpiexec only prints these names
        reached = ["-localhost", self.line.address, "-genvnone", "-wdir", "/", "-hosts", hosts, "-ppn", "1", "-n", str(self.ranks)]
        command = [self.mpi.mpiexec, "-launcher", "manual", *reached, "/bin/sh", "-c", f'eval "${COMMAND}"']
        home, mark = self.directory / "mpiexec", secrets.token_hex(8)
        (home / FOLDER).mkdir(parents=True)
        scratch = home / "scratch"
        scratch.mkdir()
        environment = self.mpi.environment(os.environ, str(scratch))
        self.mpiexec = self.guarded(command, environment, home, "DKCORE_MPIEXEC", mark, scratch)
        log, deadline = self.directory / LOGS / "mpiexec.log", time.monotonic() + RENDEZVOUS
        while END not in (text := log.read_text()):
            if self.mpiexec.poll() is not None or time.monotonic() > deadline:
                raise DkcoreError(expected(f"mpiexec to tell how to start its proxies within {RENDEZVOUS:g} s", text, "Is it MPICH's?"))
            time.sleep(0.01)
        lines = [line for line in text.splitlines() if line.startswith("HYDRA_LAUNCH: ")]
        return [line.removeprefix("HYDRA_LAUNCH: ") for line in lines]

    def heed(self) -> None:
        """EndedError when the driver has ended this, or is gone."""
        if self.line.over:
            raise EndedError
        if time.monotonic() > self.began + RENDEZVOUS and not read_statuses(self.directory):
            self.fail("silent", f"no word from rank {self.rank} within {RENDEZVOUS:g} s")

    def watch(self) -> None:
        """Stay until this rank has ended well, and its proxy with it; say at once when it has not."""
        process = self.follow()
        seen = None
        while self.guard.poll() is None:
            if process is not None and select([process], [], [], TICK)[0]:
                os.close(process)
                process = None
                self.mourn(time.time())
            elif process is None:
                time.sleep(TICK)
            self.heed()
            self.look()
            seen = self.tell_checkpoint(seen)
        if process is not None:
            os.close(process)
        self.mourn(time.time())
        self.look()
        self.await_mpiexec()

    def mourn(self, since: float) -> None:
        """When the rank has ended without a word, tell the driver. A proxy that was killed took it along."""
        if self.state() != "running":
            return
        deadline = time.monotonic() + WORD
        while (code := read_code(self.directory)) is None and time.monotonic() < deadline:
            time.sleep(TICK / 10)
        killed = code is not None and code < 0
        text = f"the proxy of rank {self.rank} (on {socket.gethostname()}) killed by signal {-code}" if killed else ""
        self.fail("proxy" if killed else "dead", text, since=since)

    def look(self) -> None:
        """Pass on what the rank prints, and how it fares."""
        if self.plan["follow"]:
            self.line.follow(self.directory / LOGS / f"rank-{self.rank}.log", f"{LOGS}/rank-{self.rank}.log")
        if self.state() == "failed":
            self.fail("failed", "")
        if self.mpiexec is not None and self.mpiexec.poll() is not None and (code := read_code(self.directory / "mpiexec")) != 0:
            killed = code is None or code < 0
            how = "a signal" if code is None else f"signal {-code}"
            self.fail("mpiexec" if killed else "ended", f"mpiexec killed by {how}" if killed else "")

    def await_mpiexec(self) -> None:
        """It ends when the last rank of all has."""
        while self.mpiexec is not None and self.mpiexec.poll() is None:
            self.heed()
            time.sleep(TICK)
        self.look()

    def tell_checkpoint(self, seen: int | None) -> int | None:
        """Send the checkpoint when it is another one than the one seen; its time."""
        path = self.directory / CHECKPOINT
        now = path.stat().st_mtime_ns if path.exists() else None
        if now != seen:
            self.line.replace(path, CHECKPOINT)
        return now

    def follow(self) -> int | None:
        """A pidfd of the rank; None when it has ended already."""
        status = read_statuses(self.directory).get(self.rank)
        try:
            process = None if status is None else os.pidfd_open(status.pid)
        except ProcessLookupError:
            return None
        if process is not None and birth(status.pid) != status.birth:
            os.close(process)
            return None
        return process

    def state(self) -> str:
        status = read_statuses(self.directory).get(self.rank)
        return "running" if status is None else status.state

    def fail(self, kind: str, text: str, **header) -> None:
        """Tell the driver why, wait for its end of the job, and end."""
        self.report(kind, text=text, **header)
        deadline = time.monotonic() + STOPPING
        while not self.line.over and time.monotonic() < deadline:  # others may know better, and need their time
            time.sleep(TICK)
        raise EndedError(text or kind)

    def report(self, kind: str, **header) -> None:
        self.tell()
        self.line.say(kind, **header)

    def tell(self) -> None:
        """Send what an explanation needs: the rank's status, and the ends of the logs."""
        name = f"{FOLDER}/rank-{self.rank}.json"
        if (self.directory / name).exists():
            self.line.replace(self.directory / name, name)
        for name in (f"rank-{self.rank}.log", *(["mpiexec.log"] if self.rank == 0 else [])):
            self.line.follow(self.directory / LOGS / name, f"{LOGS}/{name}")
        if (code := read_code(self.directory / "mpiexec")) is not None:
            self.line.say("file", str(code).encode(), name=f"{FOLDER}/mpiexec", append=False, whole=True)

    def deliver(self, known: set[str]) -> None:
        """Send everything that the rank made."""
        self.tell()
        for path in sorted(self.directory.iterdir()):
            if path.is_file() and path.name not in known | {"center", CHECKPOINT}:
                self.line.replace(path, path.name)


def read_code(directory: Path) -> int | None:
    """The exit code that a guard has left of its command."""
    told = directory / FOLDER / "mpiexec"
    return int(told.read_text()) if told.exists() else None


def stop(process: subprocess.Popen, plan: dict) -> None:
    """End a guard, and with it all that it guards."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOPPING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.returncode < 0:  # somebody killed it, so it could not do this
        guard.tear_down(plan)


def local_folder() -> str | None:
    """Where Spark wants this executor's temporary files."""
    told = os.environ.get("SPARK_LOCAL_DIRS") or os.environ.get("LOCAL_DIRS") or ""
    return next((folder for folder in told.split(",") if os.path.isdir(folder)), None)
