"""How far is the simulator from the truth? Its prediction against real processes that sleep their steps and exchange for real.

All that a prediction is told about the machine is how many exchanges a second it makes when nobody sleeps, measured before each
round, and its cores: each carries one exchange at a time.
"""

import os

import numpy as np

from bench.harness.case import Case
from bench.harness.crew import Crew
from bench.subjects.sleeper import RULE, WARM
from dkcore.center import Center
from dkcore.simulation import Simulation

SIZE = 2_000_000
WINDOW, STEP_TIME, JITTER = 4, 0.01, 0.1
STRAGGLER = 3.0  # times slower
SECONDS = 4.0


def cases(quick: bool) -> list[Case]:
    """1 to 8 workers; 8 of which one is slow."""
    return [make(workers) for workers in ((2,) if quick else (1, 2, 4, 8))] + [make(8, straggler=STRAGGLER)]


def make(workers: int, straggler: float | None = None) -> Case:
    """simulation/staleness/WORKERSworkers and simulation/exchanges_per_s/WORKERSworkers: predicted over measured; staleness/WORKERSworkers.

    With a straggler the staleness is the straggler's: the mean is n - 1 however fast workers are.
    """
    rest = f"{workers}workers" + ("/straggler" if straggler else "")
    pace = {workers - 1: straggler} if straggler else {}
    return Case(f"simulation/staleness/{rest}", f"simulation/exchanges_per_s/{rest}", f"staleness/{rest}", workers=workers, pace=pace)


def exchange_time(crew: Crew, case: Case) -> float:
    """Seconds of one exchange on a busy machine: with as many others at work as there are cores."""
    return crew.seconds("exchange") / WARM * lanes(case) / case.workers


def lanes(case: Case) -> int:
    return min(len(os.sched_getaffinity(0)), case.workers)


def predict(case: Case, seconds: float) -> tuple[float, float]:
    """Staleness and exchanges a second, when one exchange takes so many."""
    told = {"window": WINDOW, "step_time": STEP_TIME, "jitter": JITTER, "stragglers": case.pace, "weights": SIZE}
    plan = Simulation(rule=RULE, workers=case.workers, exchange_time=seconds, lanes=lanes(case), **told)
    found = plan.run(duration=SECONDS)
    return found.stale[-1] if case.pace else found.mean_staleness, found.exchanges_per_s


def measure(crew: Crew, case: Case) -> tuple[float, float]:
    """The same of real processes."""
    crew.ask("plan", SECONDS, case.pace)
    crew.seconds("work")
    counts, sums = np.transpose(crew.ask("told"))
    assert counts.all(), "a worker never exchanged: the machine is too busy"
    watched = list(case.pace) or slice(None)
    return sums[watched].sum() / counts[watched].sum(), counts.sum() / SECONDS


def bench_simulation(case, turns, quick):
    rounds, times = [], []
    with Center.create(np.zeros(SIZE, np.float32)) as center:
        with Crew(case.workers, "bench.subjects.sleeper:Sleeper", center.name, WINDOW, STEP_TIME, JITTER, cores="all") as crew:

            def run() -> float:
                times.append(exchange_time(crew, case))
                rounds.append((predict(case, times[-1]), measure(crew, case)))
                return SECONDS

            turns({"run": run}, rounds=1 if quick else 5, verify=run)
    predicted, measured = np.transpose(rounds[1:], (1, 2, 0))  # the first was the verification, and warms up
    for key, guess, truth, more in zip(case.keys, predicted, measured, ("", f", {1e3 * np.median(times):.2f} ms each"), strict=False):
        note = f"predicted {np.median(guess):.2f}, measured {np.median(truth):.2f}{more}"
        # One worker alone is never stale: there 0 / 0 is a good prediction.
        turns.figure(key, np.divide(guess, truth, out=np.ones_like(guess), where=(guess != 0) | (truth != 0)), note=note)
    who = "of the slow worker" if case.pace else "of all workers"
    turns.figure(case.keys[2], measured[0], "commits", note=f"of others between two exchanges, {who}")
