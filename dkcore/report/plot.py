"""The picture of a training: loss and accuracy over time for each worker and the center, staleness, and the figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dkcore.report.history import CENTER, metric_names

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
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "grid.color": "#E6E6E6",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
Histogram: TypeAlias = Mapping[int, Sequence[int]] | Sequence[Sequence[int]]  # of each worker

LOG_SPAN = 8  # a loss that spans this factor is drawn on a logarithmic axis
SMOOTH = 25  # a worker's line is a moving average over this part of its records
TAIL = 0.9995  # of all exchanges are within the staleness that is drawn
FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("test_accuracy", "test accuracy", lambda value: f"{100 * value:.2f} %"),
    ("test_loss", "test loss", lambda value: f"{value:.4g}"),
    ("training_time_s", "training time", lambda value: f"{value:,.1f} s"),
    ("samples_per_s", "throughput", lambda value: f"{value:,.0f} samples/s"),
    ("samples", "samples", lambda value: f"{value:,.0f}"),
    ("exchanges", "exchanges", lambda value: f"{value:,.0f}"),
    ("exchange_share", "time in exchanges", lambda value: f"{100 * value:.2f} %"),
)


@dataclass
class Curve:
    """One line, a worker's or the center's: values at times in seconds."""

    worker: int
    time: np.ndarray
    value: np.ndarray


def draw(path: Path, figures: Mapping[str, Any], history: "pyarrow.Table | None", histogram: Histogram | None) -> None:
    """Draw to a PNG file; what is missing is left out. No display is needed, nor is anybody's pyplot touched."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    metric, counts = main_metric(history), nonzero(histogram)
    known = [(label, form(figures[key])) for key, label, form in FIGURES if figures.get(key) is not None]
    below = [name for name, there in (("staleness", counts), ("figures", known)) if there]
    rows = [["loss", "metric" if metric else "loss"]] + ([[below[0], below[-1]]] if below else [])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2 if len(rows) == 1 else 7.6), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
        axes: dict[str, Axes] = figure.subplot_mosaic(rows, height_ratios=(1.25, 1)[: len(rows)])
        figure.suptitle(setting(figures), x=0.012, ha="left", fontsize=15, fontweight="bold")
        draw_loss(axes["loss"], curves(history, "loss", figures))
        if metric:
            draw_metric(axes["metric"], curves(history, metric, figures), metric)
        if counts:
            draw_staleness(axes["staleness"], counts, figures.get("mean_staleness"))
        if known:
            draw_figures(axes["figures"], known)
        figure.savefig(path, facecolor="white")


def setting(figures: Mapping[str, Any]) -> str:
    """One line that says what was trained how."""
    parts = [str(figures.get("trainer") or "Training")]
    for key in ("workers", "window", "epochs"):
        if (count := figures.get(key)) is not None:
            parts.append(f"window {count}" if key == "window" else f"{count} {key.removesuffix('s') if count == 1 else key}")
    return "  ·  ".join(parts)


def main_metric(history: "pyarrow.Table | None") -> str | None:
    """The metric to draw: an accuracy where there is one."""
    names = metric_names(history) if history is not None else []
    return next((name for name in names if "acc" in name), names[0] if names else None)


def curves(history: "pyarrow.Table | None", column: str, figures: Mapping[str, Any]) -> list[Curve]:
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
    tested = figures.get(f"test_{column}")
    if tested is not None and workers and not center:
        center = [Curve(CENTER, np.array([max(curve.time[-1] for curve in workers)]), np.array([tested]))]
    return workers + center


def smoothed(value: np.ndarray) -> np.ndarray:
    """A centered moving average, over fewer values at the ends."""
    width = np.ones(max(1, len(value) // SMOOTH))
    return np.convolve(value, width, "same") / np.convolve(np.ones(len(value)), width, "same")


def nonzero(histogram: Histogram | None) -> dict[int, np.ndarray]:
    """The counts of those workers that exchanged at all."""
    items = histogram.items() if isinstance(histogram, Mapping) else enumerate(histogram if histogram is not None else ())
    counts = {int(worker): np.asarray(row, float) for worker, row in items}
    return {worker: counts[worker] for worker in sorted(counts) if counts[worker].sum() > 0}


def colour(index: int, workers: int) -> str:
    return COLOURS[index] if workers <= len(COLOURS) else CROWD


def draw_curves(axes: "Axes", lines: list[Curve], factor: float, place: str) -> None:
    """Workers thin, the center bold; a legend that names each of a few workers, or counts many."""
    workers = [line for line in lines if line.worker != CENTER]
    many = len(workers) > len(COLOURS)
    style: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.55} if many else {"linewidth": 1.2}
    for index, line in enumerate(workers):
        label = f"worker {line.worker}" if not many else f"{len(workers)} workers" if index == 0 else None
        marker = "." if len(line.time) == 1 else None
        axes.plot(line.time, line.value * factor, marker=marker, color=colour(index, len(workers)), label=label, **style)
    bold: dict[str, Any] = {"linewidth": 2.4, "marker": "o", "markersize": 6.5, "markeredgecolor": "white", "zorder": 5}
    for line in lines:
        if line.worker == CENTER:
            axes.plot(line.time, line.value * factor, color=INK, label="center, on test data", **bold)
    axes.set_xlabel("time since start (s)")
    axes.set_xlim(left=0)
    if lines:
        axes.legend(loc=place)
    else:
        axes.set_axis_off()


def last_value(lines: list[Curve]) -> tuple[bool, float]:
    """Whether the center was evaluated; its last value, or else the mean of the workers'."""
    center = [line for line in lines if line.worker == CENTER]
    return bool(center), float(np.mean([line.value[-1] for line in center or lines]))


def draw_loss(axes: "Axes", lines: list[Curve]) -> None:
    draw_curves(axes, lines, 1, "upper right")
    axes.set_ylabel("loss")
    if not lines:
        axes.set_title("No loss was recorded")
        return
    evaluated, value = last_value(lines)
    axes.set_title(f"The center's test loss ends at {value:.3g}" if evaluated else f"Training loss ends at {value:.3g}")
    values = np.concatenate([line.value for line in lines])
    if values.min() > 0 and values.max() > LOG_SPAN * values.min():
        from matplotlib.ticker import LogLocator

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
        axes.yaxis.set_minor_locator(LogLocator(subs=()))
        axes.set_ylabel("loss (logarithmic)")


def draw_metric(axes: "Axes", lines: list[Curve], metric: str) -> None:
    percent, name = "acc" in metric, metric.replace("_", " ")
    draw_curves(axes, lines, 100 if percent else 1, "lower right" if percent else "best")
    axes.set_ylabel(f"{name} (%)" if percent else name)
    if not lines:
        axes.set_title(f"No {name} was recorded")
        return
    evaluated, value = last_value(lines)
    text = f"{100 * value:.1f} %" if percent else f"{value:.3g}"
    axes.set_title(f"The center reaches {text} on test data" if evaluated else f"Training {name} ends at {text}")
    if percent:  # the first steps would take most of the height
        values = 100 * np.concatenate([line.value for line in lines])
        axes.set_ylim(np.percentile(values, 5) - 2, min(100.5, values.max() + 2))


def draw_staleness(axes: "Axes", counts: dict[int, np.ndarray], mean: float | None) -> None:
    """Stacked bars: the share of all exchanges of stripes at each staleness."""
    from matplotlib.ticker import MaxNLocator

    bins = max(len(row) for row in counts.values())
    shares = {worker: np.pad(row, (0, bins - len(row))) for worker, row in counts.items()}
    total = sum(shares.values(), start=np.zeros(bins))
    base = np.zeros(bins)
    for index, (worker, row) in enumerate(shares.items()):
        share = 100 * row / total.sum()
        label = f"worker {worker}" if len(shares) <= len(COLOURS) else None
        axes.bar(np.arange(bins), share, 0.8, base, color=colour(index, len(shares)), label=label)
        base += share
    last = int(np.searchsorted(np.cumsum(total) / total.sum(), TAIL))
    if last == bins - 1 > 0:
        axes.annotate("and more", (last, base[last]), (0, 3), textcoords="offset points", ha="center", fontsize=8, color=GREY)
    mean = float((total * np.arange(bins)).sum() / total.sum()) if mean is None else mean
    axes.axvline(mean, color=INK, linewidth=1.4, linestyle=(0, (4, 3)), label=f"mean, {mean:.2f}")
    axes.set_xlim(-0.6, max(last, 3) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("staleness (commits by others since the worker's last exchange)")
    axes.set_ylabel("share of exchanges (%)")
    axes.set_title(f"An exchange finds {mean:.1f} commits by others")
    axes.legend(loc="upper right")


def draw_figures(axes: "Axes", known: list[tuple[str, str]]) -> None:
    """The figures as a list, each with its unit."""
    axes.set_axis_off()
    axes.set_title("In figures")
    for index, (label, value) in enumerate(known):
        style: dict[str, Any] = {"y": 0.93 - index * 0.135, "transform": axes.transAxes, "va": "center", "fontsize": 11}
        axes.text(x=0.0, s=label, color=GREY, **style)
        axes.text(x=0.42, s=value, fontweight="bold" if index == 0 else "normal", **style)
