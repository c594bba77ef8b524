"""What the pictures of a report share: the house's style, axes of sizes, and the word for data that is not there."""

import re
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from bench.report.reading import Reading
from dkcore.report.plot import COLOURS, GREY, INK

__all__ = [
    "COLOURS",
    "GREY",
    "INK",
    "NoDataError",
    "canvas",
    "cores",
    "log_axis",
    "series",
    "sizes_axis",
    "spaced",
    "stated",
    "workers_axis",
]

UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
MARKERS = "osD^vPX*<>"


class NoDataError(LookupError):
    """A picture cannot be drawn from this report; says what it would need."""


def canvas(columns: int = 1, *, width: float = 10, height: float = 5.4, title: str = "", **options):
    """A figure of ``columns`` panels beside each other, and its one message."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    panels = figure.subplots(1, columns, squeeze=False, **options)[0]
    size = min(14, 105 * figure.get_figwidth() / len(title))  # a long one in smaller letters, not cut off
    figure.suptitle(title, x=0.014, ha="left", fontsize=size, fontweight="bold")
    return figure, list(panels)


def stated(figure: Figure, reading: Reading) -> None:
    """Below the panels: where and when this was measured."""
    flat = reading.flat
    parts = [f"{flat['machine/processor']}, {flat.get('machine/cores', '?')} cores", str(flat.get("run/started", ""))[:10]]
    parts += [f"commit {str(flat.get('commit', 'unknown'))[:10]}"] + (["a quick run"] if flat.get("run/kind") == "quick" else [])
    figure.supxlabel("  ·  ".join(part for part in parts if part), x=0.014, ha="left", fontsize=8, color=GREY)


def short(number: float) -> str:
    """With a prefix.

    >>> short(4_798_010), short(1000), short(67_108_864)
    ('4.8 M', '1 k', '67 M')
    """
    scale, prefix = next((pair for pair in UNITS if number >= pair[0]), UNITS[-1])
    value = number / scale
    return f"{value:.2g} {prefix}".strip() if value < 100 else f"{value:.0f} {prefix}".strip()


def pretty(name: str) -> str:
    """The parts of a key for people.

    >>> pretty("exchanges_per_s/100000"), pretty("dkcore/jax/adag"), pretty("mpich_rma")
    ('exchanges per s (100 k parameters)', 'dkcore (jax, adag)', 'mpich rma')
    """
    first, *rest = [f"{short(int(part))} parameters" if part.isdecimal() else part.replace("_", " ") for part in name.split("/")]
    return f"{first} ({', '.join(rest)})" if rest else first


def duration(microseconds: float) -> str:
    """In its best unit.

    >>> duration(0.5), duration(100), duration(10_000), duration(2e6)
    ('0.5 µs', '100 µs', '10 ms', '2 s')
    """
    scale, unit = next((pair for pair in ((1e6, "s"), (1e3, "ms")) if microseconds >= pair[0]), (1, "µs"))
    return f"{microseconds / scale:g} {unit}"


def sizes_axis(axes: Axes, sizes: Iterable[int], label: str = "parameters of the model") -> None:
    """A logarithmic axis with the sizes that were measured on it; where two are too near, the first."""
    axes.set_xscale("log")
    ticks: list[int] = []
    for size in sorted(sizes):
        if not ticks or size > 2.5 * ticks[-1]:
            ticks.append(size)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda tick, _: short(tick))
    axes.set_xlabel(label)


def log_axis(axes: Axes, low: float, high: float, label: str, form=lambda tick: f"{tick:g}") -> None:
    """A logarithmic axis of values, with plain numbers."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high / low > 300 else (1, 2, 5), numticks=20))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda tick, _: form(tick))
    axes.set_ylabel(label)


def workers_axis(axes: Axes, workers: Iterable[int], top: float) -> None:
    """Workers that were measured, and room above for the name of a line."""
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(workers))))
    axes.set_xlabel("workers")
    axes.set_ylim(0, 1.16 * top)


def series(reading: Reading, question: str) -> dict[str, dict[int, float]]:
    """Figures QUESTION/NAME/Nworkers as {name: {workers: value}}; the name may be missing or have many parts."""
    found: dict[str, dict[int, float]] = {}
    for key, figure in reading.figures.items():
        first, *name = key.split("/")
        if first == question and name and (match := re.fullmatch(r"(\d+)workers?", name[-1])):
            found.setdefault("/".join(name[:-1]), {})[int(match[1])] = figure.value
    return {name: dict(sorted(points.items())) for name, points in found.items()}


def spaced(values: list[float], apart: float, low: float, high: float) -> list[float]:
    """The same values, moved as little as it takes to be so far apart, and within bounds: isotonic regression of what is left of them
    without the distance, by pooling neighbours that are in the wrong order (Ayer et al. 1955).

    >>> spaced([2.0, 2.0, 5.0], 1.0, 0.0, 9.0), spaced([0.1, 0.0], 1.0, 0.0, 9.0)
    ([1.5, 2.5, 5.0], [1.0, 0.0])
    """
    order = sorted(range(len(values)), key=lambda index: values[index])
    pools: list[tuple[float, int]] = []  # the mean of each, and how many it has
    for rank, index in enumerate(order):
        pools.append((values[index] - rank * apart, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, count), (other, more) = pools[-2:]
            pools[-2:] = [((mean * count + other * more) / (count + more), count + more)]
    means = [min(max(mean, low), high - (len(values) - 1) * apart) for mean, count in pools for _ in range(count)]
    placed = {index: mean + rank * apart for rank, (index, mean) in enumerate(zip(order, means, strict=True))}
    return [placed[index] for index in range(len(values))]


def legend(axes: Axes, place: str, **options) -> None:
    """On white, so that no line runs through it."""
    axes.legend(loc=place, frameon=True, facecolor="white", edgecolor="none", framealpha=1, **options)


def cores(axes: Axes, reading: Reading) -> None:
    """A line at as many workers as there are cores."""
    if count := reading.flat.get("machine/cores"):
        axes.axvline(count, color="#C9C9C9", linewidth=1, linestyle=(0, (2, 2)), zorder=0)
        axes.annotate(f"{count} cores", (count, 1), xycoords=("data", "axes fraction"), xytext=(4, -10), textcoords="offset points",
                      fontsize=8, color=GREY)  # fmt: skip
