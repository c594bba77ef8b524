"""What do exchanges cost a training, and how fast is it compared with a plain ``fit``?

The demo: a perceptron 784-500-500-10 on images like MNIST's, Adam, batches of 32, ADAG with a window of 12 on two
workers that share the cores fairly. Whole epochs in turn: with exchanges; with the rule's kernel on private memory where they would
be; with a window that never ends, so that there are none; without our callback; and a plain ``fit`` in one process on all cores.
"""

import os
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bench.harness.case import Case
from bench.harness.crew import Crew
from bench.questions.bench_replica import BACKENDS, QUIET
from dkcore.center import Center
from dkcore.training.job import Job

WORKERS = 2
SAMPLES = {"tensorflow": 60_000, "jax": 24_000, "torch": 12_000}
QUICK_SAMPLES = 12_000
WEIGHTS = 648_010
WRONG = 0.2  # of the labels
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC")
MODEL = Path(__file__).parents[2] / "examples" / "mnist.py"


def cases(quick: bool) -> list[Case]:
    """TensorFlow is the demo; the others when there is time."""
    names = {"tensorflow": "demo", "jax": "jax", "torch": "torch"}
    questions = ("exchange_share", "exchange_share_limit", "throughput_vs_no_exchange", "throughput_vs_no_callback")
    made = []
    for backend in BACKENDS[:1] if quick else BACKENDS:
        keys = [f"{question}/{names[backend]}" for question in questions]
        samples = QUICK_SAMPLES if quick else SAMPLES[backend]
        made.append(Case(*keys, f"throughput_vs_plain_fit/{backend}", backend=backend, samples=samples, rounds=1 if quick else 3))
    return made


def bench_training(case, turns, quick):
    if find_spec(case.backend) is None:
        pytest.skip(f"{case.backend} is not installed: pip install 'dkcore[{case.backend}]'")
    with ExitStack() as stack:
        center, crew, plain = set_up(stack, case.backend, case.samples)
        shares: dict[str, list[float]] = {"exchanging": [], "passing": []}

        def sharing(what: str) -> float:
            seconds = crew.seconds(what)
            shares[what].append(np.mean(crew.ask("exchange_share")))
            return seconds

        def verify() -> None:
            crew.seconds("exchanging")
            assert np.all(center.versions == sum(crew.ask("exchanges"))), "a stripe missed an exchange"
            assert max(crew.ask("loss")) < 1.5, "the workers did not learn"
            plain.ask("warm")

        sides = {name: lambda name=name: crew.seconds(name) for name in ("endless", "alone")}
        sides = {what: lambda what=what: sharing(what) for what in shares} | sides | {"plain": lambda: plain.seconds("fit")}
        seconds = turns(sides, rounds=case.rounds, verify=verify)
    rates = {name: f"{case.samples / np.median(values):,.0f}" for name, values in seconds.items()}
    turns.figure(case.keys[0], shares["exchanging"], note="of the time of an epoch, window 12")
    turns.figure(case.keys[1], shares["passing"], note="the same kernel on memory of the worker's own: this machine's limit")
    for key, rival in zip(case.keys[2:], ("endless", "alone", "plain"), strict=True):
        turns.figure(key, seconds[rival] / seconds["exchanging"], note=f"{rates['exchanging']} and {rates[rival]} samples/s")


def set_up(stack: ExitStack, backend: str, samples: int) -> tuple[Center, Crew, Crew]:
    """A center, the workers that train on it, and a process for the plain fit."""
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="dkcore-bench-"))
    write_job(directory, backend, samples)
    center = stack.enter_context(Center.create(np.random.default_rng(0).normal(0, 0.05, WEIGHTS).astype(np.float32)))
    environment = {"KERAS_BACKEND": backend, **QUIET}
    threads = dict.fromkeys(THREADS, str(max(len(os.sched_getaffinity(0)) // WORKERS, 1)))
    options = {"environment": environment | threads, "cores": "share"}
    crew = stack.enter_context(Crew(WORKERS, "bench.subjects.trainee:Trainee", directory, center.name, **options))
    plain = stack.enter_context(Crew(1, "bench.subjects.trainee:Plain", directory, environment=environment, cores="all"))
    return center, crew, plain


def blurred(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of ten blurred classes, and labels. Some are wrong, so that nobody is ever done learning."""
    random = np.random.default_rng(0)
    classes = random.integers(0, 10, samples)
    noise = random.integers(0, 128, (samples, 28, 28), dtype=np.uint8)
    images = noise + random.integers(0, 128, (10, 28, 28), dtype=np.uint8)[classes]
    labels = np.where(random.random(samples) < WRONG, random.integers(0, 10, samples), classes).astype(np.uint8)
    return images, labels


def write_job(directory: str, backend: str, samples: int) -> None:
    """The demo's settings, and its images."""
    images, labels = blurred(samples)
    settings = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    job = Job(workers=WORKERS, window=12, batch_size=32, backend=backend, model=f"{MODEL}:mlp", **settings)
    job.save(directory, {"x_train": images, "y_train": labels})
