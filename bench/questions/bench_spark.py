"""How fast is training on Spark: how soon do ranks take their first step, and how do we compare with elephas 7.3.0?

Each side has an environment, a process, and a Spark of its own, ``local[2]`` on loopback, and the same rows of MNIST, cached; they
work in turn. What is timed is the call that a user makes, from rows in Spark to a trained model: ``train`` and ``fit``. One call
of each comes before: then Spark is warm, and so are elephas' workers, which Spark keeps, framework and all. Ours are always new
processes: their start, imports and compilation are in our time. elephas exchanges once an epoch unless told otherwise, and can
after each batch; we exchange as often as the trainer does by default.
"""

import importlib.util
import sys
import tempfile
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bench.harness.case import Case
from bench.harness.kept import Kept
from bench.harness.peer import ROOT, Peer
from bench.peers.table import ENVIRONMENTS, absent
from bench.subjects import perceptron
from bench.subjects.launched import STAGES, TRAINING
from bench.subjects.mnist_rows import ROWS, mnist

ELEPHAS = ENVIRONMENTS["elephas"] / "bin" / "python"
BACKEND = "jax"  # its ranks start soonest
TRAINERS = ("ADAG", "DOWNPOUR", "DynSGD")
WORKERS, EPOCHS = 2, 6
QUICK_EPOCHS = 2
LEARNT = 0.9  # of the test rows: less is no training
WARM = 1  # launches
RETURNED = {"returned": "the rank has ended: tell, deliver, remove all; its task and Spark's job end"}
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def cases(quick: bool) -> list[Case]:
    """The launch; then pairs of ours and theirs. The first is the goal's, with all trainers' accuracies."""
    epochs = QUICK_EPOCHS if quick else EPOCHS
    stages = [f"spark_launch_s/{stage}" for stage in STAGES | RETURNED]
    made = [Case("spark_launch_s", *stages, rounds=3 if quick else 9)]
    for frequency in ("epoch",) if quick else ("epoch", "batch"):
        name = "" if frequency == "epoch" else f"/{frequency}"
        keys = [f"vs_elephas/samples_per_s{name}", f"vs_elephas/accuracy/elephas{name}"]
        trainers = TRAINERS if not name else TRAINERS[:1]
        keys += [f"vs_elephas/accuracy/{trainer.lower()}{name}" for trainer in trainers]
        keys += [f"vs_elephas/stage_s{name}/{stage}" for stage in TRAINING | RETURNED]
        rare = frequency == "batch"  # it takes a minute an epoch
        options = {"frequency": frequency, "epochs": 1 if rare else epochs, "rounds": 1 if rare or quick else 2}
        made.append(Case(*keys, backend=BACKEND, trainers=trainers, **options))
    return made


@pytest.fixture(scope="module")
def theirs():
    """The peer that is kept for all cases."""
    with Kept() as made:
        yield made


def bench_spark(case, kept, theirs, turns):
    if reason := needs(getattr(case, "backend", BACKEND)):
        pytest.skip(reason)
    if case.question == "spark_launch_s":
        measure_launch(case, peer_of(kept, BACKEND), turns)
        return
    if reason := absent("elephas"):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="dkcore-bench-") as directory:
        pair = Pair(case, peer_of(kept, case.backend), peer_of(theirs, "elephas"), Path(directory))
        compare(case, pair, turns)


def measure_launch(case: Case, ours: Peer, turns) -> None:
    """From the call of ``spark_bridge.run`` to the function on the last rank, and to the results; a rank imports no framework."""
    told = []

    def launch() -> float:
        told.append(ours.ask("launch", workers=WORKERS))
        return max(rank["step"] for rank in told[-1])

    def verify() -> None:
        for _ in range(WARM):
            launch()
        assert len(told[-1]) == WORKERS, "a rank is missing"
        assert all(rank["task"] < rank["rank"] < rank["joined"] < rank["step"] for rank in told[-1]), "stages are out of order"
        told.clear()

    seconds = turns({"launch": launch}, rounds=case.rounds, verify=verify)
    turns.figure(case.keys[0], seconds["launch"], "s", note=f"from the call to the first step of {WORKERS} ranks; its stages are below")
    note_stages(case.keys[1:], STAGES | RETURNED, told, turns)


def note_stages(keys: tuple, stages: dict[str, str], told: list[list[dict]], turns) -> None:
    """What each stage adds: the time at which the last rank had reached it, after that of the stage before."""
    before = np.zeros(len(told))
    for key, (stage, what) in zip(keys, stages.items(), strict=True):
        reached = np.array([max(rank[stage] for rank in ranks if stage in rank) for ranks in told])
        turns.figure(key, np.maximum(reached - before, 0), "s", note=what)
        before = np.maximum(reached, before)


class Pair:
    """Both sides of a case; each call begins with the same weights, and notes the accuracy on the test rows."""

    def __init__(self, case: Case, ours: Peer, theirs: Peer, directory: Path) -> None:
        self.case, self.peers, self.directory = case, {"ours": ours, "theirs": theirs}, directory
        self.accuracies: dict[str, list[float]] = {}
        self.told: list[list[dict]] = []  # when each rank of each of our trainings reached which stage
        perceptron.save(directory / "born.npz", perceptron.born())

    def train(self, side: str, how: dict) -> float:
        """Seconds of one training."""
        [name] = how.values()
        paths = {"weights": str(self.directory / "born.npz"), "trained": str(self.directory / "trained.npz")}
        answer = self.peers[side].ask("train", epochs=self.case.epochs, **how, **paths)
        found = perceptron.accuracy(perceptron.load(paths["trained"]), *mnist()[2:])
        assert found > LEARNT, f"{side} ({name}) learnt nothing: {found:.3f} of the test rows"
        if side == "ours":
            assert answer["samples"] == self.case.epochs * ROWS, f"ours saw {answer['samples']} samples"
            self.told.append(answer["stages"])
        self.accuracies.setdefault(name.lower(), []).append(found)
        return answer["seconds"]


def compare(case: Case, pair: Pair, turns) -> None:
    """One training of each side in turn; then one with each other trainer, for its accuracy."""
    first, *others = case.trainers
    sides = {"ours": lambda: pair.train("ours", {"trainer": first}), "theirs": lambda: pair.train("theirs", {"frequency": case.frequency})}

    def verify() -> None:
        for side in reversed(sides.values()):
            side()
        pair.accuracies.clear()
        pair.told.clear()

    seconds = turns(sides, rounds=case.rounds, verify=verify)
    told, samples = list(pair.told), case.epochs * ROWS
    inside = np.median([(ranks[0]["trained"] - ranks[0]["ready"]) for ranks in told])
    ours, theirs, alone = (f"{samples / np.median(values):,.0f}" for values in (*seconds.values(), inside))
    note = f"{ours} ({case.backend}, {first}; {alone} while its ranks train) and {theirs} samples/s, {case.epochs} epochs, "
    note += f"theirs exchanging every {case.frequency}; {pair.peers['theirs'].ask('versions')}"
    turns.figure(case.keys[0], seconds["theirs"] / seconds["ours"], note=note)
    for trainer in others:
        pair.train("ours", {"trainer": trainer})
    names = [case.frequency, *(trainer.lower() for trainer in case.trainers)]
    for key, name in zip(case.keys[1:], names, strict=False):
        turns.figure(key, pair.accuracies[name], note=f"of the test rows after {case.epochs} epochs")
    note_stages(case.keys[1 + len(names) :], TRAINING | RETURNED, told, turns)


def peer_of(kept: Kept, name: str) -> Peer:
    """Ours with a backend, or "elephas", with the rows loaded."""

    def make(stack: ExitStack) -> Peer:
        environment = QUIET | ({} if name == "elephas" else {"KERAS_BACKEND": name}) | java()
        which = (ELEPHAS, "bench.subjects.spark_elephas") if name == "elephas" else (sys.executable, "bench.subjects.spark_ours")
        peer = stack.enter_context(Peer(*which, environment))
        with tempfile.TemporaryDirectory(prefix="dkcore-bench-") as directory:
            x, y, *_ = mnist()
            np.savez(Path(directory, "rows.npz"), x=x, y=y)
            loaded = peer.ask("load", data=str(Path(directory, "rows.npz")), workers=WORKERS)
        assert loaded == ROWS, f"{name} has {loaded} rows"
        return peer

    return kept.get(name, make)


@cache
def java() -> dict[str, str]:
    """The Java of the tests on Spark."""
    specification = importlib.util.spec_from_file_location("spark_settings", ROOT / "tests" / "spark" / "spark_settings.py")
    tests = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tests)
    home = tests.java_home()
    return {"JAVA_HOME": home} if home else {}


def needs(backend: str) -> str | None:
    """What is missing for our side."""
    missing = [name for name in ("pyspark", "mpi4py", backend) if find_spec(name) is None]
    return f"{missing[0]} is not installed: pip install 'dkcore[spark,mpich,{backend}]'" if missing else None
