"""Ours and peers' time of an exchange against size: peer_us/NAME/SIZE/Nworkers."""

import math

import numpy as np
from matplotlib.figure import Figure

from bench.report.drawing import COLOURS, GREY, INK, NoDataError, canvas, duration, log_axis, pretty, sizes_axis, spaced, stated
from bench.report.peer_times import KEY, OURS, peer_times
from bench.report.reading import Reading

__all__ = ["peers"]

BESIDE = 2.4  # times the largest size: where names begin
GAP = 0.031  # of the height between two names
BELOW, ABOVE = 0.25, 0.45  # room beyond the values, in powers of ten


def peers(reading: Reading) -> Figure:
    """A panel for each number of workers; each line ends in its name."""
    found = times(reading)
    if OURS not in {name for panel in found.values() for name in panel}:
        raise NoDataError(f"figures peer_us/NAME/SIZE/Nworkers, {OURS}'s among them")
    names = sorted({name for panel in found.values() for name in panel} - {OURS})
    looks = {
        name: (COLOURS[index % len(COLOURS)], ("-", (0, (5, 2)), (0, (1, 1)))[index // len(COLOURS)]) for index, name in enumerate(names)
    }
    figure, panels = canvas(len(found), width=7.2 * len(found) if len(found) > 1 else 9, height=7, title=message(found), sharey=True)
    low, high = np.log10(
        [pick(value for panel in found.values() for line in panel.values() for value in line.values()) for pick in (min, max)]
    )
    for axes, (workers, panel) in zip(panels, sorted(found.items()), strict=True):
        ends = []
        for name, line in panel.items():
            colour, dashes = (INK, "-") if name == OURS else looks[name]
            bold = {"linewidth": 3, "marker": "o", "zorder": 5} if name == OURS else {"linewidth": 1.4, "marker": "o", "markersize": 3.5}
            axes.plot(line.keys(), line.values(), color=colour, linestyle=dashes, **bold)
            ends.append((name, max(line), line[max(line)], colour))
        sizes_axis(axes, {size for line in panel.values() for size in line})
        log_axis(axes, 10 ** (low - BELOW), 10 ** (high + ABOVE), "time of an exchange" if axes is panels[0] else "", duration)
        right = max(size for _, size, _, _ in ends)
        span = high - low + BELOW + ABOVE
        heights = spaced([(math.log10(value) - low + BELOW) / span for _, _, value, _ in ends], GAP, 0.02, 0.99)
        for (name, size, value, colour), height in zip(ends, heights, strict=True):
            place = 10 ** (low - BELOW + height * span)
            thread = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "relpos": (0, 0.5), "shrinkB": 2}
            axes.annotate(pretty(name), (size, value), (right * BESIDE, place), color=colour, fontsize=9, va="center",
                          fontweight="bold" if name == OURS else "normal", annotation_clip=False, arrowprops=thread)  # fmt: skip
        axes.set_title(f"{workers} worker{'s' * (workers != 1)}", color=GREY)
    stated(figure, reading)
    return figure


def times(reading: Reading) -> dict[int, dict[str, dict[int, float]]]:
    """{workers: {name: {size: microseconds}}}."""
    workers = sorted({int(match["workers"]) for key in reading.figures if (match := KEY.fullmatch(key))})
    found = {count: peer_times(reading.flat, count) for count in workers}
    return {count: panel for count, panel in found.items() if panel}


def message(found: dict[int, dict[str, dict[int, float]]]) -> str:
    """By how much we are ahead of the best peer, at the worst and at the best place."""
    leads = []
    for panel in found.values():
        for size, value in panel.get(OURS, {}).items():
            others = [line[size] for name, line in panel.items() if name != OURS and size in line]
            leads += [min(others) / value] if others else []
    if not leads:
        return "The time of an exchange"
    worst, best = (f"{lead:.2g}" for lead in (min(leads), max(leads)))
    if min(leads) >= 1:
        return f"An exchange of dkcore is {worst} to {best} times as fast as the best peer's" if worst != best else (
            f"An exchange of dkcore is {worst} times as fast as the best peer's")  # fmt: skip
    ahead = sum(lead >= 1 for lead in leads)
    return f"dkcore is the fastest at {ahead} of {len(leads)} sizes: {worst} to {best} times as fast as the best peer"
