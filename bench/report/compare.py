"""``--compare``: what became slower or faster between two reports, beyond the noise of both."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.harness.figure import Figure
from bench.report.direction import better
from bench.report.reading import Reading

__all__ = ["Change", "Comparison", "compare"]

THRESHOLD = 0.25
FLOOR = 0.02  # nobody cares for less, even of a figure without any noise
STYLES = {"REGRESSED": "bold red", "FAILED": "bold red", "slower": "yellow", "faster": "green", "vanished": "yellow"}
ORDER = ("FAILED", "REGRESSED", "slower", "vanished", "changed", "faster", "new")
DIFFERENT = {"machine/processor": "another processor", "machine/cores": "other cores", "run/kind": "another kind of run"}


@dataclass(frozen=True)
class Change:
    """What became of one figure. worse: how much, as a factor; None where nobody knows which way is better."""

    key: str
    what: str
    old: Figure | None = None
    new: Figure | None = None
    worse: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """All changes beyond the noise; how many figures there were in both; why the reports may not be comparable."""

    changes: list[Change]
    compared: int
    threshold: float
    warnings: list[str]

    @property
    def regressed(self) -> bool:
        return any(change.what in ("REGRESSED", "FAILED") for change in self.changes)

    def print(self) -> None:
        """As a table."""
        table = Table(title="What changed", title_justify="left")
        for name in ("figure", "old", "new", "change", "noise", "", "note"):
            table.add_column(name, justify="right" if name in ("old", "new", "change", "noise") else "left", no_wrap=name != "note")
        for change in sorted(self.changes, key=lambda change: (ORDER.index(change.what), -(change.worse or 0))):
            both = change.old and change.new
            percent = f"{change.new.value / change.old.value - 1:+.0%}" if both and change.old.value else ""
            cells = [shown(change.old), shown(change.new), percent, f"{noise(change.old, change.new):.0%}" if both else ""]
            table.add_row(change.key, *cells, change.what, escape(change.note), style=STYLES.get(change.what))
        counted = ", ".join(f"{count} {what}" for what in ORDER if (count := sum(change.what == what for change in self.changes)))
        caption = (
            f"{self.compared} figures compared: {counted or 'nothing changed beyond the noise'}. Noise is the spread of both runs "
            f"together; a regression is beyond it and worse by more than {self.threshold:.0%}."
        )
        console = Console(width=None if Console().is_terminal else 170)
        for warning in self.warnings:
            console.print(f"[yellow]{escape(warning)}[/yellow]")
        if self.changes:
            console.print(table)
        console.print(caption)


def compare(old: Reading, new: Reading, threshold: float = THRESHOLD, only: str | None = None) -> Comparison:
    """Figure by figure. only: a pattern as of ``--only``; the others were not run, and so have not vanished."""
    before, after = (chosen(reading.figures, only) for reading in (old, new))
    changes = [change for key in before if key in after and (change := changed(before[key], after[key], threshold))]
    failed = chosen(new.under("failed"), only)
    absent = new.under("absent")
    for key in before:
        if key not in after and key not in failed:
            changes.append(Change(key, "vanished", before[key], note=absent.get(key, "not in the new report")))
    changes += [Change(key, "FAILED", before.get(key), note=reason) for key, reason in failed.items()]
    changes += [Change(key, "new", None, after[key]) for key in after if key not in before]
    warnings = [
        f"{text.capitalize()}: {old.flat.get(key)}, now {new.flat.get(key)}. Differences may be the machine's, not dkcore's."
        for key, text in DIFFERENT.items()
        if key in old.flat and old.flat.get(key) != new.flat.get(key)
    ]
    return Comparison(changes, len(before.keys() & after.keys()), threshold, warnings)


def chosen(found: dict, only: str | None) -> dict:
    return {key: value for key, value in found.items() if not only or fnmatchcase(key, f"*{only}*")}


def changed(old: Figure, new: Figure, threshold: float) -> Change | None:
    """None when it is within the noise."""
    if old.value <= 0 or new.value <= 0:
        return Change(old.key, "changed", old, new) if abs(new.value - old.value) > FLOOR * abs(old.value) else None
    way, more = better(new), new.value / old.value
    worse = {"less": more, "more": 1 / more, None: None}[way]
    if max(more, 1 / more) - 1 <= noise(old, new):
        return None
    if worse is None:
        return Change(old.key, "changed", old, new)
    return Change(old.key, "faster" if worse < 1 else "REGRESSED" if worse > 1 + threshold else "slower", old, new, worse)


def noise(old: Figure, new: Figure) -> float:
    """The part of a figure within which two runs are the same."""
    return max(FLOOR, old.spread + new.spread)


def shown(figure: Figure | None) -> str:
    return f"{figure.value:.4g} {figure.unit}".strip() if figure else ""
