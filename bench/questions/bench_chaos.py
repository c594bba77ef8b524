"""What is left of a training's speed while its workers are killed, compared with restarts of the whole job?

The demo's perceptron, two workers, some epochs. Workers are killed at random times (kill -9), by a mean time between failures, once they
train. Ours: on_worker_loss="restart". Against it: the same job that ends with each death and is launched again from its last checkpoint
(one an epoch); and torch DDP under torchrun, which restarts both of its workers from a checkpoint each epoch.

Goodput: the time of the same system without a fault over its time with them, from the launch to the end: the part of the allocated
worker-seconds that were useful. One that does not end in PATIENCE times its time without faults has none. What the restarts' start-up
allows is what would be left if nothing else were lost than the time until each new worker's first exchange, of one of two workers.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bench.harness.case import Case
from bench.questions.bench_replica import QUIET
from bench.questions.bench_training import MODEL, blurred
from bench.subjects.killed import Killer, Slots, Watch
from dkcore.errors import RankError
from dkcore.training.job import Job
from dkcore.training.results import collect

WORKERS, WINDOW, BATCH = 2, 12, 32
LIMIT = 600.0  # seconds without faults
BACKEND = "jax"
SYSTEMS = ("ours", "checkpoints", "ddp")
PATIENCE = 4
SAMPLES, EPOCHS = 24_000, 20
QUICK_EPOCHS = 6
MTBFS, COMPARED = (60, 15, 5, 2), (15, 5)  # seconds; those at which the others are measured, too
OURS = ("goodput_vs_startup", "recovery_s", "recovery_p99_s", "survivors_s", "survivors_p99_s", "loss_ratio", "rows_lost", "rows_in_doubt")
DDP = Path(__file__).parents[1] / "subjects" / "ddp.py"


def cases(quick: bool) -> list[Case]:
    """chaos/WHAT/MTBF in seconds."""
    made = []
    for mtbf in (5,) if quick else MTBFS:
        systems = SYSTEMS if mtbf in COMPARED and not quick else SYSTEMS[:1]
        keys = [f"chaos/goodput/{mtbf}s/{system}" for system in systems] + [f"chaos/{what}/{mtbf}s" for what in OURS]
        made.append(Case(*keys, mtbf=mtbf, systems=systems, epochs=QUICK_EPOCHS if quick else EPOCHS))
    return made


@dataclass
class Run:
    """seconds: from the launch to the end. done: whether it came to its end. loss: of the trained model, on the test rows.

    recovery, survivors: seconds of each kill, see `Watch`."""

    seconds: float = 0.0
    kills: int = 0
    done: bool = True
    loss: float = float("nan")
    lost: int = 0
    doubt: int = 0
    recovery: list[float] = field(default_factory=list)
    survivors: list[float] = field(default_factory=list)


def bench_chaos(case, turns, kept):
    if missing := [name for name in ("mpi4py", BACKEND) if find_spec(name) is None]:
        pytest.skip(f"{missing[0]} is not installed: pip install 'dkcore[mpich,{BACKEND}]'")
    systems = [system for system in case.systems if system != "ddp" or find_spec("torch")]
    calm: dict[str, Run] = kept.get("without faults", lambda stack: {})
    torn: dict[str, Run] = {}

    def side(system: str) -> float:
        torn[system] = SIDES[system](case, case.mtbf, PATIENCE * calm[system].seconds)
        return torn[system].seconds

    def without_faults() -> None:
        for system in set(systems) - set(calm):
            calm[system] = SIDES[system](case, None, LIMIT)

    turns({system: lambda system=system: side(system) for system in systems}, rounds=1, verify=without_faults)
    for key, system in zip(case.keys, case.systems, strict=False):
        if system not in torn:
            turns.absent(key, "torch is not installed")
            continue
        run = torn[system]
        note = f"{run.kills} kills; {calm[system].seconds:.1f} s without, {run.seconds:.1f} s with them" + (
            "" if run.done else ", given up"
        )
        turns.figure(key, [calm[system].seconds / run.seconds if run.done else 0.0], note=note)
    figures_of_ours(dict(zip(OURS, case.keys[len(case.systems) :], strict=True)), turns, calm["ours"], torn["ours"])


def figures_of_ours(keys: dict[str, str], turns, calm: Run, torn: Run) -> None:
    """What became of the workers, the rows and the model."""
    none = f"no such death among {torn.kills} kills"
    for name, values, meaning in (
        ("recovery", torn.recovery, "from a kill to the first exchange of the worker that follows"),
        ("survivors", torn.survivors, "from a kill to the next exchange of the survivor"),
    ):
        for key, share in ((keys[f"{name}_s"], 50), (keys[f"{name}_p99_s"], 99)):
            if values:
                turns.figure(key, [np.percentile(values, share)], "s", note=f"{meaning}; {len(values)} of {torn.kills} kills")
            else:
                turns.absent(key, none)
    if torn.recovery:
        allowed = calm.seconds / (calm.seconds + sum(torn.recovery) / WORKERS)
        turns.figure(keys["goodput_vs_startup"], [calm.seconds / torn.seconds / allowed], note=f"of {allowed:.2f}, which start-ups allow")
    else:
        turns.absent(keys["goodput_vs_startup"], none)
    losses = f"on the test rows {torn.loss:.4f}, without faults {calm.loss:.4f}"
    turns.figure(keys["loss_ratio"], [torn.loss / calm.loss], note=f"of the trained model; {losses}")
    turns.figure(keys["rows_lost"], [torn.lost], "rows", note="that nobody trained on")
    turns.figure(keys["rows_in_doubt"], [torn.doubt], "rows", note="of exchanges of which a part was in")


# ---------------------------------------------------------------------- systems


def arrays() -> dict[str, np.ndarray]:
    """The demo's images, and some more to test the trained model on."""
    x, y = blurred(SAMPLES + 2000)
    return {"x_train": x[:SAMPLES], "y_train": y[:SAMPLES], "x_test": x[SAMPLES:], "y_test": y[SAMPLES:]}


def job_in(directory: str, case: Case, **more) -> Job:
    settings = {
        "optimizer": "adam",
        "loss": "sparse_categorical_crossentropy",
        "window": WINDOW,
        "batch_size": BATCH,
        "epochs": case.epochs,
    }
    job = Job(workers=WORKERS, backend=BACKEND, model=f"{MODEL}:mlp", **settings, **more)
    return job.save(directory, arrays())


def ours(case: Case, mtbf: float | None, limit: float) -> Run:
    """A job that goes on: each worker that is killed is followed by another one."""
    with tempfile.TemporaryDirectory(prefix="dkcore-bench-") as directory, ExitStack() as stack:
        job = job_in(directory, case, on_worker_loss="restart", restarts=1_000_000, sharding="dynamic")
        slots, watched = Slots(job.home), Slots(job.home)  # each is read by a thread, and closed after it
        stack.callback(slots.close)
        stack.callback(watched.close)
        watch = stack.enter_context(Watch(watched))
        killer = None if mtbf is None else stack.enter_context(Killer(mtbf, slots.pids, seed=0))
        found = Run()
        began = time.perf_counter()
        found.done = launched(job, limit)
        found.seconds = time.perf_counter() - began
        if killer is not None:
            killer.over.set()
            found.kills = len(killer.kills)
            found.recovery = [seconds for kill in killer.kills if (seconds := watch.first_after(*kill)) is not None]
            found.survivors = [seconds for kill in killer.kills if (seconds := watch.next_after(*kill)) is not None]
        if found.done:
            report, _ = collect(job)
            found.loss, found.lost, found.doubt = report["test_loss"], report["samples_lost"], BATCH * report["batches_in_doubt"]
            assert report["worker_deaths"] in (found.kills - 1, found.kills), "a kill was not counted"  # the last may come when all is said
            missing = SAMPLES * case.epochs - report["samples"] - found.lost
            assert 0 <= missing <= BATCH * report["batches_in_doubt"], f"{missing} rows are missing"
    return found


def launched(job: Job, limit: float) -> bool:
    """Whether it ended well, within the time."""
    began = time.perf_counter()

    def look() -> None:
        if time.perf_counter() > began + limit:
            raise TimeoutError

    try:
        job.launch(temporary=False, on_tick=look)
    except TimeoutError:
        return False
    return True


def checkpoints(case: Case, mtbf: float | None, limit: float) -> Run:
    """The same job, which ends when a worker is killed, and is launched again by its launcher from the last checkpoint."""
    found, began = Run(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dkcore-bench-") as folder, ExitStack() as stack:
        current: list[Slots] = []

        def victims() -> list[int]:
            return [pid for slots in list(current) for pid in slots.pids()]

        killer = None if mtbf is None else stack.enter_context(Killer(mtbf, victims, seed=0))
        began = time.perf_counter()
        for attempt in range(1000):
            saved = Path(folder, "checkpoints")
            resume = str(saved) if saved.exists() and any(path.name.startswith("checkpoint") for path in saved.iterdir()) else None
            job = job_in(str(Path(folder, str(attempt))), case, checkpoint=str(saved), checkpoint_every="1 epoch", resume=resume)
            current.append(Slots(job.home))
            try:
                found.done = launched(job, limit - (time.perf_counter() - began))
                break
            except RankError:
                continue
            finally:
                current.pop().close()
        found.seconds = time.perf_counter() - began
        found.kills = len(killer.kills) if killer is not None else 0
    return found


def ddp(case: Case, mtbf: float | None, limit: float) -> Run:
    """torch DDP under torchrun."""
    found = Run()
    with tempfile.TemporaryDirectory(prefix="dkcore-bench-") as directory, ExitStack() as stack:
        home, data = Path(directory), arrays()
        np.save(home / "x.npy", data["x_train"])
        np.save(home / "y.npy", data["y_train"])

        def victims() -> list[int]:
            said = [int(path.read_text() or 0) for path in home.glob("training-*")]
            return [pid for pid in said if pid and os.path.exists(f"/proc/{pid}")]

        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORKERS}", "--max-restarts=1000000",
                   "--monitor-interval=0.1", str(DDP), directory, str(case.epochs), str(BATCH)]  # fmt: skip
        killer = None if mtbf is None else stack.enter_context(Killer(mtbf, victims, seed=0))
        began = time.perf_counter()
        process = subprocess.Popen(command, env={**os.environ, **QUIET}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            found.done = process.wait(limit) == 0
        except subprocess.TimeoutExpired:
            found.done = False
        finally:
            process.terminate()
            process.wait(60)
        found.seconds = time.perf_counter() - began
        found.kills = len(killer.kills) if killer is not None else 0
    return found


SIDES = {"ours": ours, "checkpoints": checkpoints, "ddp": ddp}
