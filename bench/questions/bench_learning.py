"""How soon has a model learnt? MNIST, the perceptron 784-500-500-10, Adam, batches of 32: samples a second, and seconds to 97 %.

dkcore with two workers, and Keras alone in one process on all cores, on each backend; elephas on two Spark workers. After each epoch
the model is looked at with the 10,000 test images. Seconds begin when the model is ready to train; the compilation of its first step and
earlier looks are in them. elephas shows no model before it has ended, so each of its points is a training of its own, of so many
epochs, on workers that are warm.
"""

import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bench.harness.case import Case
from bench.harness.crew import Crew
from bench.harness.kept import Kept
from bench.questions.bench_replica import BACKENDS, QUIET
from bench.questions.bench_spark import absent, peer_of
from bench.subjects import perceptron
from bench.subjects.mnist_rows import ROWS, mnist

ENOUGH = 0.97  # of the test images
EPOCHS = {"tensorflow": 5, "jax": 5, "torch": 3}
POINTS = (1, 2, 4)  # epochs of elephas' trainings
WORKERS = 2
TRAINERS = {"tensorflow": ("adag", "aeasgd"), "jax": ("adag", "aeasgd"), "torch": ("aeasgd",)}


def cases(quick: bool) -> list[Case]:
    """training_samples_per_s/NAME, training_s_to_97/NAME; training_s/NAME/I, training_loss/NAME/I and training_accuracy/NAME/I."""
    backends = ("jax",) if quick else BACKENDS
    made = [make(f"keras/{backend}", 1 if quick else EPOCHS[backend], backend=backend) for backend in backends]
    for backend in backends:
        for rule in TRAINERS[backend]:
            made.append(make(f"dkcore/{backend}/{rule}", 1 if quick else EPOCHS[backend], backend=backend, rule=rule))
    return made[1:2] if quick else [*made, make("elephas", len(POINTS), backend=None)]


def make(name: str, points: int, **settings) -> Case:
    curves = [f"{what}/{name}/{index}" for index in range(points) for what in ("training_s", "training_loss", "training_accuracy")]
    return Case(f"training_samples_per_s/{name}", f"training_s_to_97/{name}", *curves, name=name, points=points, **settings)


def bench_learning(case, turns):
    kinds = {"keras": learn_alone, "dkcore": learn_together, "elephas": learn_on_spark}
    kind, told = case.name.split("/")[0], []

    def train() -> float:
        told.append(kinds[kind](case))
        return told[-1]["seconds"][-1]

    if kind == "elephas" and (reason := absent("elephas")):
        pytest.skip(reason)
    if kind != "elephas" and find_spec(case.backend) is None:
        pytest.skip(f"{case.backend} is not installed: pip install 'dkcore[mpich,{case.backend}]'")
    turns({"train": train}, rounds=1, verify=lambda: None)
    note(case, told[0], turns)


def note(case: Case, curve: dict, turns) -> None:
    """The figures of one curve: seconds, loss and accuracy after each point."""
    assert curve["accuracy"][-1] > 0.9, f"{case.name} learnt nothing: {curve['accuracy']}"
    turns.figure(case.keys[0], [curve["samples_per_s"]], "samples/s", note="one run")
    reached = [seconds for seconds, accuracy in zip(curve["seconds"], curve["accuracy"], strict=True) if accuracy >= ENOUGH]
    best = f"{max(curve['accuracy']):.4f} was the best of {case.points} evaluations"
    if reached:
        turns.figure(case.keys[1], reached[:1], "s", note=f"one run; {best}")
    else:
        turns.absent(case.keys[1], f"it was not reached: {best}")
    for index in range(case.points):
        for key, name, unit in zip(case.keys[2 + 3 * index :], ("seconds", "loss", "accuracy"), ("s", "", ""), strict=False):
            turns.figure(key, [curve[name][index]], unit)


def learn_alone(case: Case) -> dict:
    """``model.fit`` in one process."""
    with Crew(1, "bench.subjects.learner:Learner", environment={"KERAS_BACKEND": case.backend, **QUIET}, cores="all") as crew:
        return crew.ask("learn", case.points)[0]


def learn_together(case: Case) -> dict:
    """As `dkcore train` does it; the center is evaluated by rank 0 after each epoch, which trains no further meanwhile."""
    from bench.questions.bench_training import MODEL
    from dkcore.report.history import CENTER
    from dkcore.training import results
    from dkcore.training.job import Job

    with tempfile.TemporaryDirectory(prefix="dkcore-bench-") as directory:
        x, y, x_test, y_test = mnist()
        settings = {"optimizer": "adam", "loss": perceptron.LOSS, "metrics": ["accuracy"], "window": 12, "batch_size": perceptron.BATCH}
        settings |= {"workers": WORKERS, "epochs": case.points, "backend": case.backend, "rule": case.rule}
        job = Job(model=f"{MODEL}:mlp", **settings)
        arrays = {"x_train": x, "x_test": x_test}
        arrays = {name: (array * 255).round().astype(np.uint8).reshape(-1, 28, 28) for name, array in arrays.items()}
        job.save(directory, arrays | {"y_train": y, "y_test": y_test})
        job.launch(temporary=True)
        report, table = results.collect(job)
    rows = [row for row in table.to_pylist() if row["worker"] == CENTER]
    rows = rows[1 : case.points] + rows[-1:]  # not the look before the first step; of the last two, that with all workers done
    assert len(rows) == case.points, f"{len(rows)} evaluations of {case.points} epochs"
    assert report["samples"] == case.points * ROWS, f"the workers saw {report['samples']} samples"
    return {"seconds": [row["time"] for row in rows], "loss": [row["loss"] for row in rows],
            "accuracy": [row["accuracy"] for row in rows], "samples_per_s": report["samples_per_s"]}  # fmt: skip


def learn_on_spark(case: Case) -> dict:
    """A first training comes before, so that its workers are warm: they are kept, framework and all."""
    *_, x_test, y_test = mnist()
    found: dict[str, list[float]] = {"seconds": [], "loss": [], "accuracy": []}
    with Kept() as kept, ExitStack() as stack:
        peer = peer_of(kept, "elephas")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dkcore-bench-")))
        perceptron.save(folder / "born.npz", perceptron.born())
        paths = {"weights": str(folder / "born.npz"), "trained": str(folder / "trained.npz")}
        for epochs in (1, *POINTS):
            answer = peer.ask("train", frequency="epoch", epochs=epochs, **paths)
            weights = perceptron.load(paths["trained"])
            found["seconds"].append(answer["seconds"])
            found["loss"].append(perceptron.loss(weights, x_test, y_test))
            found["accuracy"].append(perceptron.accuracy(weights, x_test, y_test))
    found = {name: values[1:] for name, values in found.items()}
    return found | {"samples_per_s": POINTS[-1] * ROWS / found["seconds"][-1]}
