"""Exchanges under the roof: exchange_gbps/RULE/SIZE/Nworkers, and the bandwidths of roof/... that they cannot exceed."""

import re

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.machine.caches import MOST_SETS
from bench.report.drawing import COLOURS, GREY, NoDataError, canvas, log_axis, sizes_axis, stated
from bench.report.reading import Reading

__all__ = ["roofline"]

KEY = re.compile(r"exchange_gbps/([^/]+)/(\d+)/(\d+)workers?")
ROOF = re.compile(r"roof/([^/]+)/([^/]+)/(\d+)threads")
NAMED = ("adag", "aeasgd", "dynsgd", "downpour")
OTHERS = "#B9CBD6"
FOOTPRINT = MOST_SETS * 3 * 4  # bytes a parameter: c, w and p of all sets that are used in turn, which is what a cache must hold
BELOW, ABOVE = 1.6, 2.4  # room beyond the values; above for the names of the levels
NARROW = 3  # a step of less, from end to beginning, has no name
EDGE = 1.6  # of the axis beyond the outermost sizes


def roofline(reading: Reading) -> Figure:
    """A panel for each number of workers; the roof is the machine's of as many threads, or of all cores."""
    found = speeds(reading)
    if not found:
        raise NoDataError("figures exchange_gbps/RULE/SIZE/Nworkers")
    figure, panels = canvas(
        len(found), width=6.2 * len(found) if len(found) > 1 else 9, height=5.6, title=message(reading, found), sharey=True
    )
    sizes = {size for rules in found.values() for line in rules.values() for size in line}
    speeds_of = [speed for rules in found.values() for line in rules.values() for speed in line.values()]
    roofs = [speed for workers in found for _, _, speed in roof(reading, workers)]
    for axes, (workers, rules) in zip(panels, sorted(found.items()), strict=True):
        for name, line in sorted(rules.items(), key=lambda item: item[0] in NAMED):
            colour = COLOURS[NAMED.index(name)] if name in NAMED else OTHERS
            style = {"linewidth": 1.8, "markersize": 4.5, "zorder": 3} if name in NAMED else {"linewidth": 0.9, "markersize": 2.5}
            axes.plot(line.keys(), line.values(), color=colour, marker="o", **style)
        sizes_axis(axes, sizes)
        axes.set_xlim(min(sizes) / EDGE, max(sizes) * EDGE)
        label = "memory moved by exchanges (GB/s)" if axes is panels[0] else ""
        log_axis(axes, min(speeds_of) / BELOW, ABOVE * max(speeds_of + roofs), label)
        draw_roof(axes, roof(reading, workers), beyond(reading))
        axes.set_title(f"{workers} worker{'s' * (workers != 1)}", color=GREY)
    figure.legend(handles=keys_of(found), loc="outside lower right", ncols=len(NAMED) + 1)
    stated(figure, reading)
    return figure


def keys_of(found: dict[int, dict[str, dict[int, float]]]) -> list[Line2D]:
    """Of all panels: each rule that has a colour, and how many have none."""
    rules = {name for panel in found.values() for name in panel}
    made = [Line2D([], [], color=COLOURS[index], marker="o", label=name) for index, name in enumerate(NAMED) if name in rules]
    others = len(rules - set(NAMED))
    label = f"{others} other rule{'s' * (others != 1)}"
    return [*made, *([Line2D([], [], color=OTHERS, marker="o", markersize=3, label=label)] if others else [])]


def draw_roof(axes: Axes, levels: list[tuple[str, float, float]], outside: float) -> None:
    """A step for each level of memory, over the sizes that it holds; the part above it is out of reach."""
    left, right = axes.get_xlim()
    begin, steps = left, []
    for name, end, speed in levels:
        begin = max(begin, outside) if name == "memory" else begin
        if end > begin:
            steps.append((name, begin, min(end, right), speed))
            begin = end
    for name, begin, end, speed in [step for step in steps if step[1] < right]:
        axes.plot([begin, end], [speed, speed], color="#222222", linewidth=1.6, solid_capstyle="butt")
        if end / begin < NARROW:
            continue
        told = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8, "color": GREY}
        axes.annotate(f"{name}\n{speed:.0f} GB/s", (np.sqrt(begin * end), speed), (0, 4), **told)


def roof(reading: Reading, workers: int) -> list[tuple[str, float, float]]:
    """(level, parameters that it holds, GB/s of the fastest loop) for as many threads, at most all cores; the smallest level first."""
    fastest: dict[int, dict[str, float]] = {}
    for key, each in reading.figures.items():
        if match := ROOF.fullmatch(key):
            speeds_of = fastest.setdefault(int(match[3]), {})
            speeds_of[match[2]] = max(speeds_of.get(match[2], 0), each.value)
    threads = max([count for count in fastest if count <= workers], default=None)
    if threads is None:
        return []
    ends = {name: size * (threads if name != "L3" else 1) / FOOTPRINT for name, size in caches(reading).items()} | {"memory": np.inf}
    return sorted([(name, ends[name], speed) for name, speed in fastest[threads].items() if name in ends], key=lambda level: level[1])


def caches(reading: Reading) -> dict[str, int]:
    """Bytes of each level: of one core, but of the third of all together."""
    return {key.removeprefix("cache_bytes/"): size for key, size in reading.under("machine").items() if key.startswith("cache_bytes/")}


def beyond(reading: Reading) -> float:
    """Parameters from which on no cache can hold what exchanges touch."""
    return max(caches(reading).values(), default=0) / FOOTPRINT


def speeds(reading: Reading) -> dict[int, dict[str, dict[int, float]]]:
    """{workers: {rule: {size: GB/s}}}, for 1 worker and as many as there are cores, or what there is."""
    found: dict[int, dict[str, dict[int, float]]] = {}
    for key, each in reading.figures.items():
        if match := KEY.fullmatch(key):
            rule, size, workers = match[1], int(match[2]), int(match[3])
            found.setdefault(workers, {}).setdefault(rule, {})[size] = each.value
    found = {workers: {rule: dict(sorted(line.items())) for rule, line in rules.items()} for workers, rules in found.items()}
    chosen = [workers for workers in (1, reading.flat.get("machine/cores")) if workers in found]
    return {workers: found[workers] for workers in (dict.fromkeys(chosen) or found)}


def message(reading: Reading, found: dict[int, dict[str, dict[int, float]]]) -> str:
    """How fast exchanges are that no cache can hold even half of: against the triads that ran in turn with them (exchange_vs_triad),
    since the machine may have been slower when the roof was measured; or, where there are none, against the roof.
    """
    keys = [f"exchange_vs_triad/{rule}/{size}/{workers}workers" for workers, rules in found.items() for rule, size in large(reading, rules)]
    ratios = [reading.figures[key].value for key in keys if key in reading.figures]
    if ratios:
        return f"Beyond the caches, exchanges move memory {np.median(ratios):.2f} times as fast as the machine's triad"
    shares: list[float] = []
    for workers, rules in found.items():
        memory = {name: speed for name, _, speed in roof(reading, workers)}.get("memory")
        shares += [rules[rule][size] / memory for rule, size in large(reading, rules)] if memory else []
    if not shares:
        return "Memory that exchanges move in a second"
    return f"Beyond the caches, exchanges run at {np.median(shares):.0%} of the memory's speed"


def large(reading: Reading, rules: dict[str, dict[int, float]]) -> list[tuple[str, int]]:
    """Rules and sizes far beyond the caches."""
    return [(rule, size) for rule, line in rules.items() for size in line if size >= 2 * beyond(reading)]
