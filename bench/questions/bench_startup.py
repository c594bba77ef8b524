"""How long is it from the command to the training, and to a center?

A job of two ranks that train for one window, as `dkcore train` starts it: processes, MPI, the framework's import, the model's
compilation, the first exchange, the end. A center: created, filled and locked in memory; and attached by another process.
"""

import json
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bench.harness.case import Case
from bench.questions.bench_replica import BACKENDS
from bench.questions.bench_training import MODEL
from dkcore.center import Center
from dkcore.training.job import Job

SIZE = 67_108_864
WORKERS, WINDOW, BATCH = 2, 12, 32


def cases(quick: bool) -> list[Case]:
    """startup_s/WHAT."""
    made = [Case(f"startup_s/center/create/{SIZE}", f"startup_s/center/attach/{SIZE}", backend=None)]
    backends = BACKENDS[1:2] if quick else BACKENDS
    return made + [Case(f"startup_s/job/{name}", f"startup_s/job/{name}/first_exchange", backend=name) for name in backends]


def bench_startup(case, turns, quick):
    if case.backend is None:
        measure_center(case, turns)
    elif missing := [name for name in ("mpi4py", case.backend) if find_spec(name) is None]:
        pytest.skip(f"{missing[0]} is not installed: pip install 'dkcore[mpich,{case.backend}]'")
    else:
        measure_job(case, turns, 1 if quick else 3)


def measure_center(case: Case, turns) -> None:
    """Both in this process; attaching maps what is there."""
    values, told = np.ones(SIZE, np.float32), []

    def create() -> float:
        start = time.perf_counter()
        with Center.create(values) as center:
            created = time.perf_counter()
            with Center.attach(center.name) as other:
                told.append(time.perf_counter() - created)
                assert other.size == SIZE
        return created - start

    def verify() -> None:
        with Center.create(values) as center:
            assert np.array_equal(center.snapshot(), values), "the center is not what it was filled with"

    seconds = turns({"create": create}, rounds=5, verify=verify)
    turns.figure(case.keys[0], seconds["create"], "s", note=f"{values.nbytes / np.median(seconds['create']) / 1e9:.1f} GB/s")
    turns.figure(case.keys[1], told, "s")


def measure_job(case: Case, turns, rounds: int) -> None:
    """One window for each rank."""
    rows = WORKERS * WINDOW * BATCH
    random, first = np.random.default_rng(0), []

    def run() -> float:
        with tempfile.TemporaryDirectory(prefix="dkcore-bench-") as directory:
            settings = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "window": WINDOW, "batch_size": BATCH}
            job = Job(workers=WORKERS, backend=case.backend, model=f"{MODEL}:mlp", **settings)
            images = random.integers(0, 255, (rows, 28, 28), dtype=np.uint8)
            job.save(directory, {"x_train": images, "y_train": random.integers(0, 10, rows).astype(np.uint8)})
            start = time.perf_counter()
            job.launch(temporary=True)
            seconds = time.perf_counter() - start
            ranks = [json.loads(Path(directory, f"rank-{rank}.json").read_text()) for rank in range(WORKERS)]
        assert [rank["samples"] for rank in ranks] == [WINDOW * BATCH] * WORKERS, "a rank did not train on its rows"
        first.append(max(rank["first"] for rank in ranks))
        return seconds

    seconds = turns({"job": run}, rounds=rounds, verify=lambda: None)
    turns.figure(case.keys[0], seconds["job"], "s", note="from the launch to the end of all ranks, with one window each")
    turns.figure(case.keys[1], first, "s", note="from the barrier of all ranks to the slowest's first exchange: compilation and 12 steps")
