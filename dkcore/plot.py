"""The picture of a training: loss and accuracy over time for each worker and the center, staleness, and the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dkcore.history import CENTER, metric_names

if TYPE_CHECKING:
    import pyarrow
    from matplotlib.axes import Axes

__all__ = ["draw"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito: safe for the colour-blind
CROWD = "#7FA9C9"  # one colour for all workers, where there are more of them than colours
INK, GREY = "#222222", "#6B6B6B"
STYLE = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": "#B5B5B5",
    "axes.labelcolor": GREY,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E6E6E6",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": GREY,
    "legend.frameon": False,
}
LOG_SPAN = 8  # a loss that spans this factor is drawn on a logarithmic axis
SMOOTH = 25  # a worker's line is a moving average over this part of its records


@dataclass
class Curve:
    """One line: a worker's, or the center's."""

    worker: int
    time: np.ndarray  # seconds
    value: np.ndarray


def draw(path: Path, figures: Mapping[str, Any], history: "pyarrow.Table | None", histogram: Mapping | None) -> None:
    """Draw to a PNG file; what is missing is left out. No display is needed, nor is anybody's pyplot touched."""
    import matplotlib
    from matplotlib.figure import Figure

    metric = main_metric(history)
    counts = normalized(histogram)
    top = ["loss", "metric"] if metric else ["loss", "loss"]
    bottom = ["staleness", "figures"] if counts else ["figures", "figures"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 7.6), dpi=150, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        axes = figure.subplot_mosaic([top, bottom], height_ratios=(1.25, 1), width_ratios=(1, 1))
        figure.suptitle(setting(figures), x=0.012, ha="left", fontsize=15, fontweight="bold")
        draw_loss(axes["loss"], curves(history, "loss", figures, "test_loss"))
        if metric:
            draw_metric(axes["metric"], curves(history, metric, figures, f"test_{metric}"), metric)
        if counts:
            draw_staleness(axes["staleness"], counts, figures.get("mean_staleness"))
        draw_figures(axes["figures"], figures)
        figure.savefig(path, facecolor="white")


def setting(figures: Mapping[str, Any]) -> str:
    """One line that says what was trained how."""
    parts = [str(figures.get("trainer") or "Training")]
    for key, one, more in (("workers", "worker", "workers"), ("epochs", "epoch", "epochs")):
        if (count := figures.get(key)) is not None:
            parts.append(f"{count:,} {one if count == 1 else more}")
    if figures.get("window") is not None:
        parts.insert(2, f"window {figures['window']}")
    return "  ·  ".join(parts)


def main_metric(history: "pyarrow.Table | None") -> str | None:
    """The metric to draw: an accuracy where there is one."""
    names = metric_names(history) if history is not None else []
    return next((name for name in names if "acc" in name), names[0] if names else None)


def curves(history: "pyarrow.Table | None", column: str, figures: Mapping[str, Any], test: str) -> list[Curve]:
    """Each worker's values over time, smoothed, then the center's; its final test alone where it was not evaluated before."""
    if history is None:
        return []
    worker, time, value = (history[name].to_numpy().astype(float) for name in ("worker", "time", column))
    found = []
    for number in np.unique(worker[np.isfinite(value)]):
        chosen = (worker == number) & np.isfinite(value)
        order = np.argsort(time[chosen], kind="stable")
        found.append(Curve(int(number), time[chosen][order], value[chosen][order]))
    center = [curve for curve in found if curve.worker == CENTER]
    workers = [Curve(curve.worker, curve.time, smoothed(curve.value)) for curve in found if curve.worker != CENTER]
    if not center and figures.get(test) is not None and workers:
        end = figures.get("training_time_s") or max(curve.time[-1] for curve in workers)
        center = [Curve(CENTER, np.array([end]), np.array([figures[test]]))]
    return workers + center


def smoothed(value: np.ndarray) -> np.ndarray:
    """A centered moving average, over fewer values at the ends."""
    width = np.ones(max(1, len(value) // SMOOTH))
    return np.convolve(value, width, "same") / np.convolve(np.ones(len(value)), width, "same")


def normalized(histogram: Mapping[int, Sequence[int]] | None) -> dict[int, np.ndarray]:
    """Counts of those workers that exchanged at all."""
    items = histogram.items() if isinstance(histogram, Mapping) else enumerate(histogram if histogram is not None else ())
    counts = {int(worker): np.asarray(row, float) for worker, row in items}
    return {worker: row for worker, row in counts.items() if row.sum() > 0}


def colour(index: int, workers: int) -> str:
    return COLOURS[index] if workers <= len(COLOURS) else CROWD


def draw_curves(axes: "Axes", lines: list[Curve], factor: float = 1.0) -> None:
    """Workers thin, the center bold; a legend that names each of a few workers, or counts many."""
    workers = [line for line in lines if line.worker != CENTER]
    for index, line in enumerate(workers):
        many = len(workers) > len(COLOURS)
        label = f"worker {line.worker}" if not many else f"{len(workers)} workers" if index == 0 else None
        style = {"linewidth": 0.8, "alpha": 0.55} if many else {"linewidth": 1.2, "alpha": 0.9}
        axes.plot(line.time, line.value * factor, color=colour(index, len(workers)), label=label, **style)
    for line in lines:
        if line.worker == CENTER:
            axes.plot(line.time, line.value * factor, "o-", color=INK, linewidth=2.4, markersize=6, markeredgecolor="white", label="center, on test data", zorder=5)
    axes.set_xlabel("time since start (s)")
    axes.set_xlim(left=0)
    if lines:
        axes.legend(loc="best", fontsize=9)


def title(axes: "Axes", message: str) -> None:
    axes.set_title(message, loc="left", fontsize=11.5, fontweight="bold", pad=10)


def ends(lines: list[Curve]) -> tuple[bool, float]:
    """Whether the center was evaluated; its last value, or else the mean of the workers'."""
    center = [line for line in lines if line.worker == CENTER]
    return bool(center), float(np.mean([line.value[-1] for line in center or lines]))


def draw_loss(axes: "Axes", lines: list[Curve]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    draw_curves(axes, lines)
    axes.set_ylabel("loss")
    if not lines:
        title(axes, "No loss was recorded")
        return
    evaluated, last = ends(lines)
    title(axes, f"The center's test loss ends at {last:.3g}" if evaluated else f"Training loss ends at {last:.3g}")
    values = np.concatenate([line.value for line in lines])
    if values.min() > 0 and values.max() > LOG_SPAN * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("loss (logarithmic)")


def draw_metric(axes: "Axes", lines: list[Curve], metric: str) -> None:
    percent = "acc" in metric
    draw_curves(axes, lines, 100 if percent else 1)
    name = metric.replace("_", " ")
    axes.set_ylabel(f"{name} (%)" if percent else name)
    if not lines:
        title(axes, f"No {name} was recorded")
        return
    evaluated, last = ends(lines)
    value = f"{last:.1%}".replace("%", " %") if percent else f"{last:.3g}"
    title(axes, f"The center reaches {value} on test data" if evaluated else f"Training {name} ends at {value}")
    if percent:
        values = 100 * np.concatenate([line.value for line in lines])
        axes.set_ylim(np.percentile(values, 2) - 1, min(100.4, values.max() + 1.5))


def draw_staleness(axes: "Axes", counts: dict[int, np.ndarray], mean: float | None) -> None:
    """Stacked bars: the share of all exchanges of stripes at each staleness."""
    from matplotlib.ticker import MaxNLocator

    total = sum(row.sum() for row in counts.values())
    last = max(int(np.flatnonzero(row)[-1]) for row in counts.values())
    bins = max(len(row) for row in counts.values())
    base = np.zeros(bins)
    for index, (worker, row) in enumerate(sorted(counts.items())):
        share = np.pad(100 * row / total, (0, bins - len(row)))
        label = f"worker {worker}" if len(counts) <= len(COLOURS) else None
        axes.bar(np.arange(bins), share, 0.8, base, color=colour(index, len(counts)), label=label)
        base += share
    axes.set_xlim(-0.6, max(last, 3) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if last == bins - 1 and bins > 1:
        axes.annotate(f"{last} and more", (last, base[last]), (0, 4), textcoords="offset points", ha="right", fontsize=8, color=GREY)
    axes.set_xlabel("staleness (commits by others since this worker's last exchange)")
    axes.set_ylabel("share of exchanges (%)")
    if mean is None:
        mean = sum((row * np.arange(len(row))).sum() for row in counts.values()) / total
    axes.axvline(mean, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
    title(axes, f"Staleness is {mean:.2g} on average")
    if 1 < len(counts) <= len(COLOURS):
        axes.legend(loc="upper right", fontsize=9)


def draw_figures(axes: "Axes", figures: Mapping[str, Any]) -> None:
    """The figures as a list, each with its unit."""
    rows = (
        ("test_accuracy", "test accuracy", lambda value: f"{100 * value:.2f} %"),
        ("test_loss", "test loss", lambda value: f"{value:.4g}"),
        ("training_time_s", "training time", lambda value: f"{value:,.1f} s"),
        ("samples_per_s", "throughput", lambda value: f"{value:,.0f} samples/s"),
        ("samples", "samples", lambda value: f"{value:,}"),
        ("exchanges", "exchanges", lambda value: f"{value:,}"),
        ("exchange_share", "time in exchanges", lambda value: f"{100 * value:.2f} %"),
    )
    axes.set_axis_off()
    known = [(label, form(figures[key])) for key, label, form in rows if figures.get(key) is not None]
    if not known:
        return
    title(axes, "In figures")
    for index, (label, value) in enumerate(known):
        height = 0.93 - index * 0.135
        axes.text(0.0, height, label, transform=axes.transAxes, color=GREY, va="center", fontsize=11)
        axes.text(0.42, height, value, transform=axes.transAxes, va="center", fontsize=11, fontweight="bold" if index == 0 else "normal")
