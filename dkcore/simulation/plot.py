"""Pictures of a simulation: the histogram of staleness, and how throughput scales with the workers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dkcore.report.plot import COLOURS, GREY, INK, STYLE, TAIL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dkcore.simulation.prediction import Prediction

__all__ = ["draw_scaling", "draw_staleness", "draw_training", "save"]

BARS = 80  # at most; beyond it neighbours share one
TICKS = 8  # at most, of numbers of workers


def save(path: Path, draw: Callable[..., None], *arguments: object) -> None:
    """Draw one picture to a PNG file: ``draw(axes, *arguments)``. No display is needed, nor is anybody's pyplot touched."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
        draw(figure.subplots(), *arguments)
        figure.savefig(path, facecolor="white")


def draw_staleness(axes: "Axes", found: "Prediction") -> None:
    """The share of all exchanges at each staleness."""
    from matplotlib.ticker import MaxNLocator

    values = np.array(sorted(found.histogram))
    counts = np.array([found.histogram[value] for value in values], float)
    shown = values <= values[np.searchsorted(np.cumsum(counts), TAIL * counts.sum())]
    first, last = values[shown].min(), values[shown].max()
    width = -(-(last - first + 1) // BARS)
    edges = np.arange(first, last + 2 * width, width) - 0.5
    heights, _ = np.histogram(values[shown], edges, weights=100 * counts[shown] / counts.sum())
    axes.bar(edges[:-1] + width / 2, heights, 0.8 * width, color=COLOURS[0])
    axes.axvline(found.mean_staleness, color=INK, linewidth=1.4, linestyle=(0, (4, 3)), label=f"mean, {found.mean_staleness:,.2f}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("staleness (commits by others since the worker's last exchange)")
    axes.set_ylabel("share of exchanges (%)" if width == 1 else f"share of exchanges (%), {width} values a bar")
    axes.set_title(f"Among {found.workers:,} workers an exchange finds {found.mean_staleness:,.1f} commits by others")
    axes.legend(loc="upper right")


def draw_scaling(axes: "Axes", runs: "Sequence[Prediction]") -> None:
    """What share of their throughput workers reach, over their number."""
    workers = np.array([run.workers for run in runs])
    share = np.array([100 * run.efficiency for run in runs])
    axes.axhline(100, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label="workers that never wait")
    axes.plot(workers, share, color=COLOURS[0], linewidth=2, marker="o", markersize=5, label="predicted")
    if len(runs) > 1:
        axes.set_xscale("log", base=2)
    ticks = workers[len(workers) - 1 :: -(-len(workers) // TICKS) * -1]
    axes.set_xticks(ticks, [f"{count:,}" for count in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, max(108, 1.05 * share.max()))
    axes.set_xlabel("workers")
    axes.set_ylabel("samples a second, of those without waiting (%)")
    axes.set_title(f"{workers[-1]:,} workers reach {share[-1]:.0f} % of their throughput: {runs[-1].samples_per_s:,.0f} samples/s")
    axes.legend(loc="lower left")


def draw_training(axes: "Axes", found: "Prediction") -> None:
    """The accuracy of the center on test data over simulated time."""
    time = [point["time"] for point in found.curve]
    axes.plot(time, [100 * point["accuracy"] for point in found.curve], color=INK, linewidth=2, marker="o", markersize=5)
    axes.set_xlabel("simulated time (s)")
    axes.set_ylabel("accuracy of the center on test data (%)")
    axes.set_title(f"The center settles at {100 * found.settled_accuracy:.1f} %")
