"""Sides of a case that are compared run in turn (A B A B), so that a noisy neighbour disturbs both alike."""

import os
from collections.abc import Callable

import numpy as np

from bench.harness.clock import Clock
from bench.harness.figure import Figure
from bench.report.report import Report

__all__ = ["Turns", "replay"]


class Turns:
    """Verifies, runs the sides of one case in turn, and notes figures.

    benchmark: pytest-benchmark's fixture; its statistics are of the first side. Its timer is ``clock``.
    """

    def __init__(self, benchmark, clock: Clock, report: Report) -> None:
        self.benchmark, self.clock, self.report = benchmark, clock, report

    def __call__(self, sides: dict[str, Callable[[], float]], *, rounds: int, verify: Callable[[], None]) -> dict[str, np.ndarray]:
        """The seconds of each side, one value a round; value ``i`` of all sides were measured next to each other.

        sides: functions that do their work and return the seconds that it took. verify: raises AssertionError when a
        side computes something wrong; then nothing is timed.
        """
        verify()
        first, *others = sides
        seconds: dict[str, list[float]] = {name: [] for name in sides}

        def the_others() -> None:
            for name in others:
                seconds[name].append(sides[name]())

        def the_first() -> None:
            seconds[first].append(sides[first]())
            self.clock.advance(seconds[first][-1])

        self.benchmark.pedantic(the_first, setup=the_others, rounds=rounds)
        return {name: np.array(values) for name, values in seconds.items()}

    def figure(self, key: str, rounds, unit: str = "", note: str = "") -> Figure:
        """Note the figure of one value a round."""
        figure = Figure.of(key, rounds, unit, note)
        self.report.add(figure)
        self.benchmark.extra_info[key] = figure.value
        return figure

    def absent(self, key: str, reason: str) -> None:
        """Note why this figure is missing, where that is no failure."""
        self.report.absent[key] = reason

    def of_roof(self, gbps: float, threads: int, level: str = "memory") -> str:
        """For a note: a speed as a share of the best that so many threads reached there when this run began (see bench_roof.py).

        Empty when the roof was not measured, as with --only.
        """
        ends = f"/{level}/{min(threads, len(os.sched_getaffinity(0)))}threads"
        roof = [figure.value for key, figure in self.report.figures.items() if key.startswith("roof/") and key.endswith(ends)]
        return f"; {gbps / max(roof):.0%} of the roof, {max(roof):.1f} GB/s" if roof else ""


def replay(measured) -> Callable[[], float]:
    """A side for times that were taken elsewhere, in turn with those of the other sides."""
    return iter([float(seconds) for seconds in measured]).__next__
