"""Should the differences of nodes be added up or averaged? ``python examples/merge_scale.py`` prints what each gives on 4 nodes.

A quadratic shows what is stable; 4,000 digits show what it is worth.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before numpy starts: sums in one order give one result

from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from dkcore.simulation import Simulation
from dkcore.simulation.optimizers import SGD, Adam
from dkcore.simulation.problems import DIGITS, Digits, Quadratic

NODES, WORKERS, BATCH, STEP_TIME = 4, 8, 32, 0.01
FAST = {"exchange_time": 1e-4, "bandwidth": 1e12, "latency": 0.0, "step_time": STEP_TIME}  # a merge lands at once
SCALES = {"added": 1.0, "averaged": 1 / NODES}
QUADRATIC = {"aeasgd": 1, "downpour": 1, "adag": 5}  # rule: window
TRAINED = {"aeasgd": 10, "downpour": 2, "adag": 10}
PACES = (1, 2, 5, 10, 20)  # exchanges of a node between merges


def quadratic(rule: str, window: int, every: int, scale: float, exchanges: int = 400) -> float:
    """|w| that is left of 1 when 8 workers go down sum(w**2) / 2 by SGD of rate 0.1."""
    plan = Simulation(rule=rule, workers=WORKERS, nodes=NODES, window=window, merge_every=every, merge_scale=scale, **FAST)
    found = plan.run(exchanges=exchanges, problem=Quadratic(4), step=partial(SGD, learning_rate=0.1))
    return (2 * found.loss / 4) ** 0.5


def digits(rule: str, window: int, every: int, scale: float, seeds: int = 3, epochs: int = 20) -> list[float]:
    """Settled accuracy in percent, one value a seed."""
    found = []
    for seed in range(seeds):
        plan = Simulation(rule=rule, workers=WORKERS, nodes=NODES, window=window, merge_every=every, merge_scale=scale, seed=seed, **FAST)
        done = plan.run(duration=epochs * DIGITS / BATCH / WORKERS * STEP_TIME, problem=Digits(WORKERS, seed=seed), step=Adam)
        found.append(100 * done.settled_accuracy)
    return found


def main() -> None:
    """Print both tables."""
    for title, rules, study, form in (
        ("|w| left of 1 on a quadratic", QUADRATIC, quadratic, "{:.2g}"),
        ("accuracy on digits (%)", TRAINED, digits, "{:.1f}"),
    ):
        table = Table("rule", "differences", *map(str, PACES), title=f"{title}, by exchanges of a node between merges")
        for rule, window in rules.items():
            for name, scale in SCALES.items():
                values = [form.format(np.mean(study(rule, window, every, scale))) for every in PACES]
                table.add_row(f"{rule}, window {window}", name, *values)
        Console(width=110).print(table)


if __name__ == "__main__":
    main()
