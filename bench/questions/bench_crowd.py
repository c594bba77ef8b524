"""What happens when workers want the same center at once: is everybody served alike, how long does the unluckiest wait, what gets done?

1 to 8 workers, each on a core of its own as far as there are cores, exchange without pause. In turn they make the same passes over
the same memory without any lock: what is late there as well is late because of the machine.
"""

from contextlib import ExitStack

import numpy as np

from bench.harness.case import Case
from bench.harness.crew import Crew
from dkcore.center import Center

SMALL, LARGE = 100_000, 4_798_010  # parameters
WORKERS = (1, 2, 4, 8)
SECONDS = {1: 0.7, 2: 0.7, 4: 1.0, 8: 2.0}  # of a round: with more workers than cores each needs several turns of the scheduler
PERCENTILES = (50, 99, 99.9)


def cases(quick: bool) -> list[Case]:
    """latency_us/PERCENTILE/PARAMETERS/WORKERSworkers and so on."""
    plans = [(SMALL, 2), (SMALL, 8)] if quick else [(size, workers) for size in (SMALL, LARGE) for workers in WORKERS]
    return [make(*plan) for plan in plans]


def make(size: int, workers: int) -> Case:
    rest = f"{size}/{workers}workers"
    keys = [f"latency_us/p{percentile}/{rest}" for percentile in PERCENTILES]
    keys += [f"latency_tail/{rest}", f"latency_tail/{rest}/unlocked", f"scaling/exchanges_per_s/{rest}"]
    return Case(*keys, *([f"fairness/{rest}"] if workers > 1 else []), size=size, workers=workers)


def bench_crowd(case, turns, quick):
    noted: dict[str, list[list[np.ndarray]]] = {"exchanging": [], "unlocking": []}
    with ExitStack() as stack:
        center = stack.enter_context(Center.create(np.zeros(case.size, np.float32)))
        crew = stack.enter_context(Crew(case.workers, "bench.subjects.crowd:Crowd", [center.name]))
        crew.ask("choose", "adag", None)
        crew.ask("last", SECONDS[case.workers] / (2 if quick else 1))

        def run(way: str) -> float:
            seconds = crew.seconds(way)
            noted[way].append(crew.ask("told"))
            return seconds

        def verify() -> None:
            crew.ask("verify")
            before = center.versions
            run("exchanging")
            made = sum(len(told) for told in noted["exchanging"].pop())
            assert np.all(center.versions - before == made), "a stripe missed an exchange"

        seconds = turns({way: lambda way=way: run(way) for way in noted}, rounds=3 if quick else 5, verify=verify)
    locked, unlocked = (np.array([np.percentile(np.concatenate(told), PERCENTILES) for told in noted[way]]) for way in noted)
    for key, values in zip(case.keys, locked.T, strict=False):
        turns.figure(key, values * 1e6, "us")
    worst = max(told.max() for round_ in noted["exchanging"] for told in round_)
    turns.figure(case.keys[3], locked[:, 2] / locked[:, 0], note=f"p99.9 over the median; the slowest of all took {worst * 1e3:.2f} ms")
    turns.figure(case.keys[4], unlocked[:, 2] / unlocked[:, 0], note="the same without locks: what the machine's scheduling does")
    counts = np.array([[len(told) for told in round_] for round_ in noted["exchanging"]])
    turns.figure(case.keys[5], counts.sum(1) / seconds["exchanging"], "/s", note="of all workers")
    if case.workers > 1:
        alike = np.array([[len(told) for told in round_] for round_ in noted["unlocking"]])
        note = f"the slowest worker's exchanges over the fastest's; without locks {np.median(alike.min(1) / alike.max(1)):.2f}"
        turns.figure(case.keys[6], counts.min(1) / counts.max(1), note=note)
