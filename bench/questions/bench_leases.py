"""What do leases cost an epoch, and what do they save when one worker is slow?

Two workers train the demo's perceptron, as in bench_training.py, in turn on fixed shards and on leased batches. Then one of them sleeps as
long as it computes, so it has half the speed: an epoch that wastes nothing takes 4/3 of the time that two fast workers take.
"""

import os
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec

import numpy as np
import pytest

from bench.harness.case import Case
from bench.harness.crew import Crew
from bench.questions.bench_replica import BACKENDS, QUIET
from bench.questions.bench_training import QUICK_SAMPLES, SAMPLES, THREADS, WEIGHTS, WORKERS, write_job
from dkcore.center import Center

SLOW = [1.0, 2.0]  # how many times as long each worker takes
SHARE = sum(1 / factor for factor in SLOW) / len(SLOW)


def cases(quick: bool) -> list[Case]:
    """leases/throughput/BACKEND and leases/slow_worker/BACKEND, and the same of fixed shards."""
    names = ("throughput", "throughput_per_core", "slow_worker", "slow_worker_fixed")
    counts = [(backend, QUICK_SAMPLES if quick else SAMPLES[backend]) for backend in (BACKENDS[:1] if quick else BACKENDS)]
    return [Case(*(f"leases/{name}/{backend}" for name in names), backend=backend, samples=samples) for backend, samples in counts]


def bench_leases(case, turns, quick):
    if find_spec(case.backend) is None:
        pytest.skip(f"{case.backend} is not installed: pip install 'dkcore[{case.backend}]'")
    with ExitStack() as stack:
        center, crew = set_up(stack, case)
        used: dict[str, list[float]] = {"fixed": [], "leased": []}

        def run(way: str, factors: list[float]) -> float:
            crew.ask("delay", factors)
            seconds = crew.seconds(way)
            if factors != SLOW:
                used[way].append(sum(crew.ask("processor")))
            return seconds

        def verify() -> None:
            for way in ("fixed", "leased"):
                run(way, [1.0, 1.0])
            batches = center.leases["batches"]
            assert center.leases["next"] == batches == sum(crew.ask("steps")), "a batch was not trained once"
            assert not center.leases["held"] + center.leases["waiting"]

        sides = {f"{way} {name}": lambda way=way, factors=factors: run(way, factors)
                 for name, factors in (("fast", [1.0, 1.0]), ("slow", SLOW)) for way in ("fixed", "leased")}  # fmt: skip
        seconds = turns(sides, rounds=3 if quick else 7, verify=verify)
        steps = crew.ask("steps")
    rates = {way: f"{case.samples / np.median(seconds[f'{way} fast']):,.0f}" for way in ("fixed", "leased")}
    note = f"{rates['leased']} samples/s of leased batches, {rates['fixed']} of fixed shards"
    turns.figure(case.keys[0], seconds["fixed fast"] / seconds["leased fast"], note=note)
    spent = {way: np.array(values[-len(seconds["fixed fast"]) :]) for way, values in used.items()}
    turns.figure(case.keys[1], spent["fixed"] / spent["leased"], note="the same by processor time, which other programs disturb less")
    ideal = seconds["fixed fast"] / SHARE
    note = f"time of an epoch over that of one that wastes nothing; the slow worker trained {steps[1] / sum(steps):.0%} of the batches"
    turns.figure(case.keys[2], seconds["leased slow"] / ideal, note=note)
    turns.figure(case.keys[3], seconds["fixed slow"] / ideal, note="the same of fixed shards: all wait for the slow worker")


def set_up(stack: ExitStack, case: Case) -> tuple[Center, Crew]:
    """A center, and the workers that train on it."""
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="dkcore-bench-"))
    write_job(directory, case.backend, case.samples)
    center = stack.enter_context(Center.create(np.random.default_rng(0).normal(0, 0.05, WEIGHTS).astype(np.float32)))
    environment = {"KERAS_BACKEND": case.backend, **QUIET}
    environment |= dict.fromkeys(THREADS, str(max(len(os.sched_getaffinity(0)) // WORKERS, 1)))
    crew = Crew(WORKERS, "bench.subjects.leaser:Leaser", directory, center.name, environment=environment, cores="share")
    return center, stack.enter_context(crew)
