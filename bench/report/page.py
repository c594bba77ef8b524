"""REPORT.md: what the machine is, which goals were met, and a table for each question. Drawn from the flat JSON alone:
``python -m bench.report.page report.json DIR``.
"""

import json
import re
import shlex
import sys
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.harness.figure import NOISY, Figure
from bench.report.plots import DRAWINGS, draw_all
from bench.report.reading import CURVES, Reading

__all__ = ["page", "write_report"]

MACHINE = {"processor": "processor", "cores": "cores", "memory_bytes": "memory", "system": "system", "numa_nodes": "NUMA nodes",
           "page_bytes": "page"}  # fmt: skip
SAYING = 4  # letters


def write_report(reading: Reading, folder: Path) -> None:
    """REPORT.md, report.json and plots/ in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(reading.flat, indent=1, allow_nan=False) + "\n")
    undrawn = draw_all(reading, folder / "plots")
    (folder / "REPORT.md").write_text(page(reading, undrawn))


def page(reading: Reading, undrawn: dict[str, str]) -> str:
    """The text. undrawn: pictures that are missing, and what they need."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, autoescape=False
    )
    environment.filters["cell"] = cell
    goals = [row(reading, figure) for key, figure in reading.figures.items() if reading.goal(key)]
    told = {
        "flat": reading.flat, "run": SimpleNamespace(**{"kind": "full", "started": "", "seconds": 0.0} | reading.under("run")),
        "command": command(reading), "noisy": f"{NOISY:.0%}",
        "load": reading.flat.get("machine/load_before", 0.0), "machine": machine(reading),
        "roof": roof_table(reading), "versions": ", ".join(f"{name} {value}" for name, value in reading.under("version").items()),
        "met": [each for each in goals if "miss" not in each.verdict], "missed": [each for each in goals if "miss" in each.verdict],
        "pictures": [name for name in DRAWINGS if name not in undrawn], "undrawn": undrawn, "sections": sections(reading),
        "curves": [f"`{question}/{name}`" for question in CURVES for name in reading.curves(question)],
    }  # fmt: skip
    return environment.get_template("REPORT.md.jinja").render(told).rstrip() + "\n"


def command(reading: Reading) -> str:
    """What makes such a report."""
    options = ["--quick"] if reading.flat.get("run/kind") == "quick" else []
    options += ["--only", reading.flat["run/only"]] if "run/only" in reading.flat else []
    return shlex.join(["python", "-m", "bench", *options])


def machine(reading: Reading) -> list[tuple[str, str]]:
    """Rows of the machine's table."""
    flat = reading.under("machine")
    rows = [(label, shown(name, flat[name])) for name, label in MACHINE.items() if name in flat]
    rows += [(f"{name.split('/')[1]} cache", amount(size)) for name, size in flat.items() if name.startswith("cache_bytes/")]
    return rows + [(f"huge pages of {name.split('/')[1]} memory", value) for name, value in flat.items() if name.startswith("huge_pages/")]


def roof_table(reading: Reading) -> list[list[str]]:
    """A row for each loop, a column for each level and number of threads; the first row names them. Empty, if none was measured."""
    found: dict[str, dict[str, str]] = {}
    for key, figure in reading.figures.items():
        if match := re.fullmatch(r"roof/([^/]+)/([^/]+)/(\d+)threads", key):
            kind, level, threads = match.groups()
            place = f"{level}, {threads} thread{'s' * (threads != '1')}"
            found.setdefault(kind, {})[place] = f"{figure.value:.3g}"
    places = sorted({place for row in found.values() for place in row})
    return [["GB/s", *places], *([kind, *(row.get(place, "") for place in places)] for kind, row in found.items())] if found else []


def shown(name: str, value: float | str) -> str:
    return amount(value) if name.endswith("_bytes") else str(value)


def amount(size: float) -> str:
    """Bytes for people.

    >>> amount(49_152), amount(2 << 20), amount(24 << 30)
    ('48 KiB', '2 MiB', '24 GiB')
    """
    power = min(3, max(0, (int(size).bit_length() - 1) // 10))
    return f"{size / 1024**power:.4g} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"


def sections(reading: Reading) -> list[SimpleNamespace]:
    """One for each thing that was asked."""
    made = []
    for about, questions in reading.questions().items():
        mine = {kind: {key: why for key, why in reading.under(kind).items() if of(key, questions)} for kind in ("absent", "failed")}
        rows = [row(reading, figure) for key, figure in reading.figures.items() if of(key, questions)]
        made.append(SimpleNamespace(about=" ".join(about.split()), patterns=patterns(questions), rows=rows, **mine))
    return made


def of(key: str, questions: list[str]) -> bool:
    return key.split("/")[0] in questions


def patterns(questions: list[str]) -> list[str]:
    """For --only: how all of them begin, if that says something; otherwise each.

    >>> patterns(["throughput_vs_plain_fit", "throughput_vs_no_callback"]), patterns(["import_s", "memory"])
    (['throughput_vs_'], ['import_s', 'memory'])
    """
    shared = "".join(same[0] for same in takewhile(lambda letters: len(set(letters)) == 1, zip(*questions, strict=False)))
    return [shared] if len(shared) >= SAYING else questions


def row(reading: Reading, figure: Figure) -> SimpleNamespace:
    """Its cells."""
    value = f"{figure.value:.3g}" if abs(figure.value) < 1000 else f"{figure.value:,.0f}"
    spread, verdict = f"{figure.spread:.0%}", reading.verdict(figure.key)
    return SimpleNamespace(
        key=figure.key,
        value=f"{value} {figure.unit}".strip(),
        spread=spread,
        goal=reading.goal(figure.key),
        verdict=verdict,
        note=figure.note,
    )


def cell(text: object) -> str:
    """Text that may stand in a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    file, place = map(Path, sys.argv[1:])
    write_report(Reading.load(file), place)
