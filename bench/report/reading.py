"""A report as it was written, read again: what plots, the page and comparisons are made of."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.harness.figure import Figure

__all__ = ["KINDS", "Reading", "is_curve"]

# First parts of flat keys that are no question. What follows in the first row is a figure's key, in "asked" a question.
KINDS = (
    *("spread", "unit", "goal", "verdict", "note", "absent", "failed"),
    *("asked", "machine", "version", "run", "commit"),
)
CURVES = ("training_s", "training_loss", "training_accuracy")  # CURVE/NAME/INDEX: points of a curve rather than answers


@dataclass(frozen=True)
class Reading:
    """Flat keys of one run, as `bench.report.report.Report` writes them."""

    flat: dict[str, float | int | str]

    @classmethod
    def load(cls, path: Path) -> "Reading":
        """Of a file of JSON; ValueError when it is something else."""
        flat = json.loads(Path(path).read_text())
        if not isinstance(flat, dict) or "machine/processor" not in flat:
            raise ValueError(f"Expected a report with flat keys, of python -m bench --json. Received: {path}, which is none.")
        return cls(flat)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """By key, in the order in which they came, without curves."""
        return {key: figure for key, figure in self.all_figures.items() if not is_curve(key)}

    @cached_property
    def all_figures(self) -> dict[str, Figure]:
        keys = [key for key in self.flat if key.split("/")[0] not in KINDS]
        return {key: self.figure(key) for key in keys}

    def figure(self, key: str) -> Figure:
        told = {name: self.flat[f"{name}/{key}"] for name in ("spread", "unit", "note") if f"{name}/{key}" in self.flat}
        return Figure(key, self.flat[key], **told)

    def goal(self, key: str) -> str:
        """The goal that it had then."""
        return self.flat.get(f"goal/{key}", "")

    def verdict(self, key: str) -> str:
        """What was said of it then: pass, miss, noisy."""
        return self.flat.get(f"verdict/{key}", "")

    def under(self, kind: str) -> dict[str, float | int | str]:
        """What stands under a kind, such as absent or machine, by the rest of the key."""
        return {key.removeprefix(f"{kind}/"): value for key, value in self.flat.items() if key.startswith(f"{kind}/")}

    def questions(self) -> dict[str, list[str]]:
        """What was asked, and the questions under it, in order; also questions that only gave a reason."""
        found: dict[str, list[str]] = {}
        for key in [*self.figures, *self.under("absent"), *self.under("failed")]:
            question = key.split("/")[0]
            names = found.setdefault(self.flat.get(f"asked/{question}") or question, [])
            if question not in names:
                names.append(question)
        return found

    def curves(self, question: str) -> dict[str, list[float]]:
        """The values of QUESTION/NAME/INDEX by name, in the order of the indices."""
        found: dict[str, dict[int, float]] = {}
        for key, figure in self.all_figures.items():
            first, *name = key.split("/")
            if first == question and name and name[-1].isdecimal():
                found.setdefault("/".join(name[:-1]), {})[int(name[-1])] = figure.value
        return {name: [points[index] for index in sorted(points)] for name, points in found.items()}


def is_curve(key: str) -> bool:
    """Is it a point of a curve?"""
    return key.split("/")[0] in CURVES
