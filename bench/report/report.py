"""The report of a run: its figures as flat keys in JSON, and as a table."""

import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.harness.figure import Figure
from bench.machine.machine import machine
from bench.report.reading import KINDS, is_curve

__all__ = ["Report"]


class Report:
    """Figures in the order in which they came; what is absent, and what failed, with the reason."""

    def __init__(self, quick: bool = False, only: str | None = None) -> None:
        self.quick, self.only = quick, only
        self.started = time.time()
        self.asked: dict[str, str] = {}
        self.figures: dict[str, Figure] = {}
        self.absent: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.load = os.getloadavg()[0]

    def ask(self, about: str, keys: Iterable[str]) -> None:
        """Note questions that this run ought to answer, and what they are about."""
        for key in keys:
            self.asked.setdefault(key.split("/")[0], about)

    def unanswered(self) -> list[str]:
        """Questions with no figure, and no reason why there is none."""
        answered = {key.split("/")[0] for key in [*self.figures, *self.absent, *self.failed]}
        return [question for question in self.asked if question not in answered]

    def add(self, figure: Figure) -> None:
        """Note a figure; a key belongs to one case only."""
        if figure.key in self.figures:
            raise ValueError(f"Expected one figure of each key. Received: {figure.key} again. Rename one of them.")
        if figure.key.split("/")[0] in KINDS:
            raise ValueError(f"Expected a question, not one of {', '.join(KINDS)}. Received: {figure.key}. Rename it.")
        if not math.isfinite(figure.value):
            raise ValueError(f"Expected a finite figure. Received: {figure.value} for {figure.key}.")
        self.figures[figure.key] = figure

    def to_dict(self) -> dict[str, float | int | str]:
        """Flat keys: each figure under its own key, and what a reader must know to compare two reports (see `bench.report.reading`)."""
        flat: dict[str, float | int | str] = {key: figure.value for key, figure in self.figures.items()}
        flat |= {f"spread/{key}": figure.spread for key, figure in self.figures.items()}
        for kind in ("unit", "goal", "verdict", "note"):
            told = {key: str(getattr(figure, kind) or "") for key, figure in self.figures.items()}
            flat |= {f"{kind}/{key}": text for key, text in told.items() if text}
        flat |= {f"absent/{key}": reason for key, reason in self.absent.items()}
        flat |= {f"failed/{key}": reason for key, reason in self.failed.items()}
        flat |= {f"asked/{question}": about for question, about in self.asked.items()}
        run = {"run/kind": "quick" if self.quick else "full", "run/seconds": time.time() - self.started}
        run["run/started"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started))
        run |= {"run/only": self.only} if self.only else {}
        return flat | machine() | {"machine/load_before": self.load} | run

    def write(self, path: Path) -> None:
        """Write ``to_dict`` as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")

    def print(self) -> None:
        """The table."""
        table = Table(title="dkcore, measured", title_justify="left", caption_justify="left")
        for name in ("figure", "median", "spread", "goal", "", "note"):
            table.add_column(name, justify="right" if name in ("median", "spread") else "left", no_wrap=name != "note")
        for figure in [figure for figure in self.figures.values() if not is_curve(figure.key)]:
            value = f"{figure.value:.3g} {figure.unit}" if figure.value < 1000 else f"{figure.value:,.0f} {figure.unit}"
            style = "red" if "miss" in figure.verdict else None
            goal = str(figure.goal or "")
            table.add_row(figure.key, value.strip(), f"{figure.spread:.0%}", goal, figure.verdict, escape(figure.note), style=style)
        for kind, reasons in (("absent", self.absent), ("FAILED", self.failed)):
            for key, reason in reasons.items():
                table.add_row(key, "", "", "", kind, escape(reason), style="yellow")
        table.caption = self.caption()
        console = Console(width=None if Console().is_terminal else 170)
        console.print()
        console.print(table)

    def caption(self) -> str:
        """How many goals were met, and how far to trust them."""
        wanted = [figure for figure in self.figures.values() if figure.goal]
        met = sum("pass" in figure.verdict for figure in wanted)
        busy = f" The load was {self.load:.1f} before the run: a busy machine." if self.load > 0.5 else ""
        return (
            f"{met} of {len(wanted)} goals met. Ratios are medians of pairs that ran in turn; spread is the distance of the quartiles "
            f"over the median.{busy}"
        )
