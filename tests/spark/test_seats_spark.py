"""A worker of an executor is killed: its rank starts another one, and the barrier stage does not fail."""

import os
import signal
import threading
import time
from pathlib import Path

import keras
import numpy as np
from ranks_of import left_behind

import dkcore as dk
from dkcore.ranks.status import DIRECTORY

ROWS, EPOCHS = 64, 150


def rank_of(pid: int) -> int | None:
    """The rank of a worker that has made a few exchanges; None of another."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        home = Path(next(each for each in environment if each.startswith(DIRECTORY.encode())).partition(b"=")[2].decode())
        notes = next(iter(home.glob("notes-*")), None)
        return int(notes.name[-1]) if notes and len(notes.read_text().splitlines()) > 5 else None
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        return None


def kill_workers(killed: list[int]) -> threading.Thread:
    """A thread that kills the worker of each rank, once it has made a few exchanges."""

    def kill() -> None:
        deadline = time.monotonic() + 150
        while len(killed) < 2 and time.monotonic() < deadline:
            for line in left_behind():
                pid = int(line.partition(":")[0]) if "-m dkcore.seats.worker" in line else 0
                rank = rank_of(pid) if pid else None
                if rank is not None and rank not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(rank)
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_killed_workers_of_executors_are_followed_by_others(spark):
    rows = [(row.tolist(), [1e6]) for row in np.eye(ROWS)]
    frame = spark.createDataFrame(rows, "features array<float>, label array<float>").repartition(2)
    model = keras.Sequential([keras.Input((ROWS,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    settings = {"num_workers": 2, "num_epoch": EPOCHS, "communication_window": 3, "batch_size": 4, "on_worker_loss": "restart"}
    trainer = dk.DOWNPOUR(model, keras.optimizers.SGD(1.0), keras.losses.MeanAbsoluteError(reduction="sum"), metrics=[], **settings)
    thread = kill_workers(killed := [])
    trained = trainer.train(frame)
    thread.join()
    report = trainer.report
    assert sorted(killed) == [0, 1] and report["worker_restarts"] == 2 and report["restarts"] == 0
    assert np.array_equal(trained.get_weights()[0].ravel(), np.full(ROWS, EPOCHS))
    assert left_behind() == []
