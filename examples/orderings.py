"""What a correct implementation of the algorithms shows, on 4,000 digits in a simulation: ``python examples/orderings.py [OUT.png]``.

It runs the rules of `dkcore.rules` for minutes on one core, prints what it finds, and draws it.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before numpy starts: sums in one order give one result

import json
import sys
from pathlib import Path

import numpy as np

from dkcore.report.plot import COLOURS, GREY, STYLE
from dkcore.simulation import Simulation
from dkcore.simulation.optimizers import Adam, Nesterov
from dkcore.simulation.problems import DIGITS, Digits

BATCH, STEP_TIME, SEEDS = 32, 0.01, 3
WINDOWS = (1, 5, 10, 20)
CROWDS = (5, 10, 20, 40)


class Uphill:
    """Nesterov's step as dist-keras has it: the gradient is taken at w - momentum * v, and the learning rate is applied twice."""

    def __init__(self, like: np.ndarray, learning_rate: float = 0.1, momentum: float = 0.9):
        self.rate, self.momentum, self.velocity = learning_rate, momentum, np.zeros_like(like)

    def __call__(self, weights: np.ndarray, gradient) -> None:
        real, velocity = weights.dtype.type, self.velocity
        velocity *= real(self.momentum)
        velocity -= real(self.rate**2) * gradient(weights - velocity)
        weights += velocity


# name: rule, workers, window, epochs shared by all workers, local step
STUDIES = {f"downpour window {window}": ("downpour", 10, window, 10, Adam) for window in WINDOWS}
STUDIES |= {f"adag window {window}": ("adag", 10, window, 40, Adam) for window in WINDOWS}
STUDIES |= {f"downpour workers {workers}": ("downpour", workers, 1, 10, Adam) for workers in CROWDS if workers != 10}
STUDIES |= {
    "adag 40": ("adag", 40, 10, 60, Adam),
    "adag_distance 40": ("adag_distance", 40, 10, 60, Adam),
    "eamsgd": ("aeasgd", 10, 10, 10, Nesterov),
    "eamsgd of dist-keras": ("aeasgd", 10, 10, 10, Uphill),
    "dynsgd": ("dynsgd", 10, 5, 20, Adam),
    "consgd": ("consgd", 10, 5, 20, Adam),
}
PAIRS = {
    "AGN\nn = 40": "adag 40",
    "damped by\ndistance": "adag_distance 40",
    "EAMSGD of\ndist-keras": "eamsgd of dist-keras",
    "EAMSGD": "eamsgd",
    "DynSGD": "dynsgd",
    "ConSGD": "consgd",
}


def train(rule: str, workers: int, window: int, epochs: int, step: type) -> list[float]:
    """Settled accuracy of the center in percent, one value a seed."""
    found = []
    for seed in range(SEEDS):
        plan = Simulation(rule=rule, workers=workers, window=window, batch_size=BATCH, step_time=STEP_TIME, exchange_time=0.0, seed=seed)
        # By time, not by exchanges: nobody leaves before the others, which would change what ConSGD divides by.
        duration = epochs * DIGITS / BATCH / workers * STEP_TIME
        done = plan.run(duration=duration, problem=Digits(workers, batch_size=BATCH, seed=seed), step=step)
        found.append(100 * done.settled_accuracy)
    return found


def staleness(workers: int) -> float:
    """Mean over 32 exchanges of each worker."""
    return Simulation(rule="adag", workers=workers, window=1).run(exchanges=32).mean_staleness


def draw(path: Path, accuracy: dict[str, list[float]], stale: dict[int, float]) -> None:
    """Four panels, each with one message."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 7), dpi=90, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        axes = figure.subplots(2, 2).ravel()
        axes[0].plot(CROWDS, [workers - 1 for workers in CROWDS], color=GREY, linestyle=(0, (4, 3)), label="workers - 1")
        axes[0].plot(CROWDS, [stale[workers] for workers in CROWDS], "o", color=COLOURS[0], label="mean of 32 exchanges")
        axes[0].set(title="Staleness is the number of others", xlabel="workers", ylabel="mean staleness (commits)", xticks=CROWDS)
        for rule, label, shade in (("downpour", "DOWNPOUR, 10 epochs", COLOURS[5]), ("adag", "AGN (ADAG), 40 epochs", COLOURS[0])):
            curve(axes[1], WINDOWS, [accuracy[f"{rule} window {window}"] for window in WINDOWS], label, shade)
        axes[1].set(title="DOWNPOUR diverges with the window", xlabel="window (steps), 10 workers", xticks=WINDOWS)
        names = ["downpour window 1" if workers == 10 else f"downpour workers {workers}" for workers in CROWDS]
        curve(axes[2], CROWDS, [accuracy[name] for name in names], "DOWNPOUR, window 1, 10 epochs", COLOURS[5])
        axes[2].set(title="DOWNPOUR decays with the workers", xlabel="workers", xticks=CROWDS)
        for panel in axes[:3]:
            panel.legend(loc="best")
        bars(axes[3], accuracy)
        figure.savefig(path, facecolor="white")


def curve(axes, places: tuple, values: list[list[float]], label: str, shade: str) -> None:
    """Means over seeds, with their standard deviations."""
    style = {"color": shade, "marker": "o", "capsize": 3, "label": label}
    axes.errorbar(places, np.mean(values, axis=1), np.std(values, axis=1, ddof=1), **style)
    axes.set_ylabel("accuracy on test digits (%)")


def bars(axes, accuracy: dict[str, list[float]]) -> None:
    """What is compared in pairs."""
    values = [accuracy[name] for name in PAIRS.values()]
    shades = [COLOURS[5], COLOURS[0], COLOURS[5], COLOURS[0], COLOURS[0], COLOURS[0]]
    axes.bar(list(PAIRS), np.mean(values, axis=1), 0.7, yerr=np.std(values, axis=1, ddof=1), capsize=3, color=shades)
    axes.tick_params(axis="x", labelsize=8)
    axes.set(title="Two defects mended, and two that are alike", ylabel="accuracy on test digits (%)", ylim=(0, 100))


def main(path: Path) -> None:
    """Run all, print means and standard deviations, write the plot and, beside it, what it shows as JSON."""
    stale = {workers: staleness(workers) for workers in CROWDS}
    accuracy = {}
    for name, study in STUDIES.items():
        accuracy[name] = train(*study)
        print(f"{name:24} {np.mean(accuracy[name]):5.1f} % +- {np.std(accuracy[name], ddof=1):.1f}", flush=True)
    print("mean staleness", {workers: round(value, 1) for workers, value in stale.items()})
    path.with_suffix(".json").write_text(json.dumps({"accuracy": accuracy, "staleness": stale}, indent=1) + "\n")
    draw(path, accuracy, stale)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "orderings.png"))
