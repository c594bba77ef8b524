"""More workers: staleness/[NAME/]Nworkers, and the throughput scaling/[NAME/]Nworkers."""

from matplotlib.figure import Figure

from bench.report.drawing import COLOURS, GREY, INK, NoDataError, canvas, cores, legend, pretty, series, stated, workers_axis
from bench.report.reading import Reading

__all__ = ["scaling", "staleness"]


def staleness(reading: Reading) -> Figure:
    """Measured staleness, beside n - 1: what comes of workers that are all equally fast."""
    found = series(reading, "staleness")
    if not found:
        raise NoDataError("figures staleness/Nworkers")
    workers = sorted({count for line in found.values() for count in line})
    most, name = max((max(line), name) for name, line in found.items())
    highest = max(value for line in found.values() for value in line.values())
    title = f"An exchange finds {found[name][most]:.1f} commits by others with {most} workers"
    figure, [axes] = canvas(width=8, title=title)
    axes.plot(
        workers, [count - 1 for count in workers], color=GREY, linestyle=(0, (4, 3)), linewidth=1.2, label="workers - 1, if all are alike"
    )
    draw_lines(axes, found, "measured")
    workers_axis(axes, workers, max(highest, workers[-1] - 1))
    axes.set_ylabel("mean staleness (commits by others)")
    cores(axes, reading)
    legend(axes, "upper left", bbox_to_anchor=(0, 0.93))
    stated(figure, reading)
    return figure


def scaling(reading: Reading) -> Figure:
    """Throughput over that of one worker, or of the fewest there are."""
    found = {name: line for name, line in series(reading, "scaling").items() if len(line) > 1}
    if not found:
        raise NoDataError("figures scaling/Nworkers")
    times = {name: {count: value / line[min(line)] for count, value in line.items()} for name, line in found.items()}
    few = min(min(line) for line in times.values())
    # Of all that are as good as the best, the fewest workers.
    best, fewest, name = max((round(value, 1), -count, name) for name, line in times.items() for count, value in line.items())
    most = -fewest
    title = f"{most} workers do {best:.2g} times the work of {'one' if few == 1 else few}" + (
        f" ({pretty(name)})" if len(times) > 1 and name else ""
    )
    figure, [axes] = canvas(width=8, title=title)
    workers = sorted({count for line in times.values() for count in line})
    limit = reading.flat.get("machine/cores", max(workers))
    ideal = [min(count, max(limit, few)) / few for count in workers]
    axes.plot(workers, ideal, color=GREY, linestyle=(0, (4, 3)), linewidth=1.2, label="all that the cores could give")
    draw_lines(axes, times, "dkcore")
    workers_axis(axes, workers, max(best, *ideal))
    axes.set_ylabel(f"throughput (times that of {'1 worker' if few == 1 else f'{few} workers'})")
    cores(axes, reading)
    legend(axes, "lower right")
    stated(figure, reading)
    return figure


def draw_lines(axes, found: dict[str, dict[int, float]], alone: str) -> None:
    """A line a name."""
    for index, (name, line) in enumerate(found.items()):
        colour = INK if len(found) == 1 else COLOURS[index % len(COLOURS)]
        axes.plot(line.keys(), line.values(), color=colour, marker="o", linewidth=2, label=pretty(name) if name else alone, zorder=3)
