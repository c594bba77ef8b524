"""The report of a run: its figures as flat keys in JSON, and as a table."""

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.figure import Figure

__all__ = ["Report"]

PACKAGES = ("numpy", "numba", "keras", "tensorflow", "jax", "torch", "pyspark", "dist-keras")


class Report:
    """Figures in the order in which they came; what is absent, and what failed, with the reason."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}
        self.absent: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.load = os.getloadavg()[0]

    def add(self, figure: Figure) -> None:
        """Note a figure; a key belongs to one case only."""
        if figure.key in self.figures:
            raise ValueError(f"Expected one figure of each key. Received: {figure.key} again. Rename one of them.")
        self.figures[figure.key] = figure

    def to_dict(self) -> dict[str, float | int | str]:
        """Flat keys: each figure under its own key, and what a reader must know to compare two reports."""
        flat: dict[str, float | int | str] = {key: figure.value for key, figure in self.figures.items()}
        flat |= {f"spread/{key}": figure.spread for key, figure in self.figures.items()}
        flat |= {f"verdict/{key}": figure.verdict for key, figure in self.figures.items() if figure.verdict}
        flat |= {f"note/{key}": figure.note for key, figure in self.figures.items() if figure.note}
        flat |= {f"absent/{key}": reason for key, reason in self.absent.items()}
        flat |= {f"failed/{key}": reason for key, reason in self.failed.items()}
        return flat | machine() | {"machine/load_before": self.load}

    def write(self, path: Path) -> None:
        """Write ``to_dict`` as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n")

    def print(self) -> None:
        """The table."""
        table = Table(title="dkcore, measured", title_justify="left", caption_justify="left")
        for name in ("figure", "median", "spread", "goal", "", "note"):
            table.add_column(name, justify="right" if name in ("median", "spread") else "left", no_wrap=name != "note")
        for figure in self.figures.values():
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


def machine() -> dict[str, str | int]:
    """Processor, cores, caches, versions and commit."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    found = {"machine/processor": model, "machine/cores": os.cpu_count() or 1, "machine/system": platform.platform()}
    found["version/python"] = platform.python_version()
    for name in PACKAGES:
        try:
            found[f"version/{name}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    root = Path(__file__).parent.parent
    commit = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found | {"commit": commit.stdout.strip() or "unknown"}
