"""A standalone Spark cluster on loopback: a real Master and real Workers, each an own process, ended with the context."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest
from spark_settings import ROOT, settings

SPARK = Path(pyspark.__file__).parent
STARTING = 60.0  # seconds


class Cluster:
    """Workers join by `worker`; ``url`` is for a driver's master."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack):
        self.folder, self.stack, self.workers = folder, stack, 0
        log = self.start("master", ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0"])
        self.url = await_line(log, r"Starting Spark master at (spark://\S+)")

    def worker(self, cores: int = 2, *, shared_memory: str | None = None, options: str = "") -> None:
        """One more Worker. shared_memory: the size of a /dev/shm of its own, which takes root; options: for its Java."""
        self.workers += 1
        name = f"worker-{self.workers}"
        arguments = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0", "--cores", str(cores), "--memory", "1500m"]
        command = ["org.apache.spark.deploy.worker.Worker", *arguments, "--work-dir", str(self.folder / name), self.url]
        apart = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size={shared_memory} tmpfs /dev/shm && exec "$@"', "sh"]
        log = self.start(name, command, apart if shared_memory else [], {"SPARK_WORKER_OPTS": options})
        await_line(log, "Successfully registered with master")

    def start(self, name: str, command: list[str], prefix: list[str] = (), more: dict[str, str] | None = None) -> Path:
        log = self.folder / f"{name}.log"
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"SPARK_HOME": str(SPARK), "SPARK_LOG_DIR": str(self.folder), **(more or {})}
        with log.open("w") as file:
            line = [*prefix, str(SPARK / "bin/spark-class"), *command]
            process = subprocess.Popen(line, stdout=file, stderr=file, env=environment, cwd=self.folder)
        self.stack.callback(end, process)
        return log

    def submit(
        self,
        script: str,
        *arguments: object,
        conf: dict[str, object] | None = None,
        options: tuple[str, ...] = (),
        check: bool = True,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess:
        """Run a script by spark-submit; what it printed. check: it must succeed."""
        path = self.folder / "script.py"
        path.write_text(script)
        chosen = {**settings(), "spark.executor.memory": "600m", "spark.log.level": "OFF", **(conf or {})}
        words = [word for name, value in chosen.items() for word in ("--conf", f"{name}={value}")]
        command = [str(SPARK / "bin/spark-submit"), "--master", self.url, *words, *options, str(path), *map(str, arguments)]
        environment = {**os.environ, "SPARK_HOME": str(SPARK), "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), **(env or {})}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}  # which spark-submit mixes anyway
        done = subprocess.run(command, env=environment, **streams, text=True, timeout=200, cwd=self.folder, check=False)
        if check:
            assert done.returncode == 0, done.stdout[-6000:]
        return done


def end(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait(30)


def await_line(log: Path, pattern: str) -> str:
    deadline = time.monotonic() + STARTING
    while not (found := re.search(pattern, log.read_text())):
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)
    return found[found.lastindex or 0]


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        yield Cluster(folder, stack)


@pytest.fixture
def alone(spark_environment, tmp_path):
    """A cluster without Workers yet."""
    with cluster(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def single(spark_environment, tmp_path_factory):
    """A cluster of one Worker of two cores, with two GPUs: its discovery script says so, no driver of one is needed for that."""
    folder = tmp_path_factory.mktemp("single")
    script = folder / "gpus"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["4", "7"]}\'\n')
    script.chmod(0o755)
    with cluster(folder) as made:
        made.worker(2, options=f"-Dspark.worker.resource.gpu.amount=2 -Dspark.worker.resource.gpu.discoveryScript={script}")
        yield made


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("a Worker with a /dev/shm of its own takes a mount namespace, which only root may make")
