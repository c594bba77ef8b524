"""Jobs with seats for the tests: ``dkcore train`` as a process, whose workers can be found by rank, and killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from dkcore.center import Center

PATIENCE = 90.0
COUNTING = """import keras
def counter():
    model = keras.Sequential([keras.Input(({rows},)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(1.0), keras.losses.MeanAbsoluteError(reduction="sum"), metrics=[])
    return model
"""


def counting(folder: Path, rows: int) -> list[str]:
    """The options of a model whose center has of each row how often it was trained on: each step on it adds 1, exactly."""
    (folder / "models.py").write_text(COUNTING.format(rows=rows))
    np.savez(folder / "rows.npz", x_train=np.eye(rows, dtype=np.float32), y_train=np.full((rows, 1), 1e6, np.float32))
    return ["--model", f"{folder}/models.py:counter", "--data", f"{folder}/rows.npz", "--trainer", "downpour"]


class SeatedJob:
    """A job that runs; a context manager that leaves nothing of it. command: what to run instead of ``dkcore train``."""

    def __init__(self, folder: Path, *options: object, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()):
        self.out, temporary = folder / "out", folder / "tmp"
        temporary.mkdir(exist_ok=True)
        words = [*prefix, sys.executable, "-m", "dkcore", "train", "--backend", "jax", "--quiet", "--out", self.out, *options]
        environment = {**(env or os.environ), "TMPDIR": str(temporary)}
        command = list(map(str, words))
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        self.places = [temporary, self.out, folder]
        self.center: Center | None = None
        self.killed: set[int] = set()

    @property
    def home(self) -> Path:
        """The job's directory, once its workers train."""
        return self.until(lambda: next((p.parent for each in self.places for p in each.glob(".dkcore-job-*/center")), None))

    def until(self, found):
        """What a function returns that is no longer false; the job's output, as a failure, when it ends before."""
        deadline = time.monotonic() + PATIENCE
        while not (result := found()):
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, "nothing came of it"
            time.sleep(0.002)
        return result

    def slot(self, rank: int, exchanges: int) -> dict:
        """Of the live worker of a rank that has made so many exchanges, and is none that was killed."""
        if self.center is None:
            self.center = Center.attach((self.home / "center").read_text())

        def look():
            for slot in self.center.slots():
                if (
                    slot["rank"] == rank
                    and slot["state"] == "claimed"
                    and slot["exchanges"] >= exchanges
                    and slot["pid"] not in self.killed
                ):
                    return slot
            return None

        return self.until(look)

    @contextlib.contextmanager
    def paused(self, ranks: int = 2):
        """A context in which the job's own workers are stopped, so that others have the processor, and the job does not end meanwhile."""
        pids = [self.slot(rank, 3)["pid"] for rank in range(ranks)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    def kill(self, rank: int, exchanges: int = 3, number: int = signal.SIGKILL) -> int:
        """Kill the worker of a rank, once it has made so many exchanges; its pid."""
        pid: int = self.slot(rank, exchanges)["pid"]
        self.killed.add(pid)
        os.kill(pid, number)
        return pid

    def end(self, code: int = 0) -> str:
        """Wait for it; what it printed."""
        self.let_go()
        printed, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == code, printed
        return printed

    @property
    def report(self) -> dict:
        return json.loads((self.out / "report.json").read_text())

    @property
    def counts(self) -> np.ndarray:
        """Of `counting`: how often each row was trained on."""
        import keras

        return keras.models.load_model(self.out / "model.keras").get_weights()[0].ravel()

    def let_go(self) -> None:
        if self.center is not None:
            self.center.close()
            self.center = None

    def __enter__(self) -> "SeatedJob":
        return self

    def __exit__(self, *error: object) -> None:
        self.let_go()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # it ends the job in order
            try:
                self.process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        if not self.process.stdout.closed:
            self.process.communicate()


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def runs(pid: int) -> bool:
    """Whether there is such a process, that is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
