"""Exchanges under the roof: exchange_gbps/RULE/SIZE/Nworkers, and the bandwidths of roof/... that they cannot exceed."""

import re

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.caches import MOST_SETS
from bench.drawing import COLOURS, GREY, NoDataError, canvas, log_axis, sizes_axis, stated
from bench.reading import Reading

__all__ = ["roofline"]

KEY = re.compile(r"exchange_gbps/([^/]+)/(\d+)/(\d+)workers?")
ROOF = re.compile(r"roof/([^/]+)/([^/]+)/(\d+)threads")
NAMED = ("adag", "aeasgd", "dynsgd", "downpour")
OTHERS = "#B9CBD6"
FOOTPRINT = MOST_SETS * 3 * 4  # bytes a parameter: c, w and p of all sets that are used in turn, which is what a cache must hold
BELOW, ABOVE = 1.6, 2.4  # room beyond the values; above for the names of the levels
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
        for name in [name for name in NAMED if name in rules]:
            axes.plot([], [], color=COLOURS[NAMED.index(name)], marker="o", label=name)
        if others := len(set(rules) - set(NAMED)):
            axes.plot([], [], color=OTHERS, marker="o", markersize=3, label=f"{others} other rule{'s' * (others != 1)}")
        sizes_axis(axes, sizes)
        axes.set_xlim(min(sizes) / EDGE, max(sizes) * EDGE)
        label = "memory moved by exchanges (GB/s)" if axes is panels[0] else ""
        log_axis(axes, min(speeds_of) / BELOW, ABOVE * max(speeds_of + roofs), label)
        draw_roof(axes, roof(reading, workers))
        axes.set_title(f"{workers} worker{'s' * (workers != 1)}", color=GREY)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=len(NAMED) + 1)
    stated(figure, reading)
    return figure


def draw_roof(axes: Axes, levels: list[tuple[str, float, float]]) -> None:
    """A step for each level of memory, over the sizes that it holds; the part above it is out of reach."""
    left, right = axes.get_xlim()
    begin, steps = left, []
    for name, end, speed in levels:
        if end > begin:
            steps.append((name, begin, min(end, right), speed))
            begin = end
    for name, begin, end, speed in [step for step in steps if step[1] < right]:
        axes.plot([begin, end], [speed, speed], color="#222222", linewidth=1.6, solid_capstyle="butt")
        place = np.sqrt(begin * end)
        axes.annotate(f"{name}\n{speed:.0f} GB/s", (place, speed), (0, 4), textcoords="offset points", ha="center", va="bottom", fontsize=8,
                      color=GREY)  # fmt: skip


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
    held = {name: size * (threads if name != "L3" else 1) for name, size in caches(reading).items()}
    levels = [(name, held.get(name, np.inf) / FOOTPRINT, speed) for name, speed in fastest[threads].items()]
    return sorted([(name, end, speed) for name, end, speed in levels if name == "memory" or name in held], key=lambda level: level[1])


def caches(reading: Reading) -> dict[str, float]:
    """Bytes of each level of one core, but of the third of all together."""
    return {key.split("/")[-1]: each.value for key, each in reading.figures.items() if key.startswith("roof/cache_bytes/")}


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
    """What share of the memory's speed the largest exchanges reach."""
    shares = []
    for workers, rules in found.items():
        levels = {name: (end, speed) for name, end, speed in roof(reading, workers)}
        beyond = max([end for end, _ in levels.values() if np.isfinite(end)], default=0)
        if "memory" in levels:
            largest = [(max(line), line[max(line)]) for line in rules.values()]
            shares += [speed / levels["memory"][1] for size, speed in largest if size > beyond]
    if not shares:
        return "Memory that exchanges move in a second"
    low, high = (f"{share:.0%}" for share in (min(shares), max(shares)))
    return f"Beyond the caches, exchanges reach {low + ' to ' + high if low != high else low} of what the memory can do"
