"""Draw docs/architecture.png from the code: ``python docs/draw_architecture.py [OUT.png]``.

Each folder and each file of dkcore/ is a box. A box stands above all boxes that it imports. Nothing is imported here: the source is
parsed, so a change of the layout needs no change of this file.

Design:
(a) An arrow is an import, also one within a function; not one for type checkers alone. An import that follows from others (a imports b,
    b imports c, a imports c) is not drawn.
(b) Boxes that import each other in a circle share a floor, and their arrows are red.
(c) An arrow across several floors has a place of its own on each, so that it passes no box.
"""

import ast
import io
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Line
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, BRIDGE, ENGINE = "dkcore", "spark_bridge", "src_ext"
LETTER, LINE_HEIGHT, PAD, GAP, FLOOR_GAP = 0.068, 0.14, 0.1, 0.18, 0.5  # inches
ARC = 0.35  # inches that an arrow within a floor rises
COLUMN = 26  # letters of a line in a box
SWEEPS, COLORS = 24, 64  # rounds in which places are improved; colors of the picture
INK, GREY, ARROW, RED, FACE, FILE_FACE = "#222222", "#6B6B6B", "#8FA3B5", "#D55E00", "#E8F1F8", "#F6F6F6"


@dataclass(eq=False)
class Box:
    """A folder or a file; or, without a name, the place where an arrow crosses a floor."""

    name: str = ""
    lines: list[str] = field(default_factory=list)
    floor: int = 0
    x: float = 0.0
    top: float = 0.0
    ground: float = 0.0  # the lower end of its floor
    above: list["Box"] = field(default_factory=list)
    below: list["Box"] = field(default_factory=list)

    @property
    def width(self) -> float:
        longest = max([len(self.name) * 1.3, *map(len, self.lines)])
        return longest * LETTER + 2 * PAD if self.name else 0.1

    @property
    def height(self) -> float:
        return (1 + len(self.lines)) * LINE_HEIGHT + 2 * PAD if self.name else 0.0


def files_of(root: Path) -> dict[str, list[tuple[str, Path]]]:
    """The boxes by name, each with its modules: (dotted name, file)."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for file in sorted((root / PACKAGE).rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if len(parts) > 2:
            found.setdefault(f"{parts[1]}/", []).append((name, file))
        elif name not in (PACKAGE, f"{PACKAGE}.__main__"):
            found[file.name] = [(name, file)]
    found[f"{BRIDGE}/"] = [(f"{BRIDGE}.{file.stem}", file) for file in sorted((root / BRIDGE).glob("*.py"))]
    return found


def imports_of(name: str, file: Path) -> Iterator[str]:
    """Dotted names that a module imports, each with what is taken from it."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            yield from (f"{source}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def graph_of(files: Mapping[str, list[tuple[str, Path]]]) -> dict[str, set[str]]:
    """Which boxes each box imports."""
    homes = {name: box for box, modules in files.items() for name, _ in modules}
    homes |= {f"{PACKAGE}.{box[:-1]}": box for box in files if box.endswith("/") and box != f"{BRIDGE}/"}
    homes[f"{PACKAGE}._engine"] = f"{ENGINE}/"
    graph: dict[str, set[str]] = {box: set() for box in files} | {f"{ENGINE}/": set()}
    for box, modules in files.items():
        for name, file in modules:
            for imported in imports_of(name, file):
                while imported and imported not in homes:
                    imported = imported.rpartition(".")[0]
                graph[box].add(homes.get(imported, box))
        graph[box].discard(box)
    return graph


def reach(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Which boxes each box needs, at once or by way of others."""
    needed = {}
    for box in graph:
        seen, waiting = set(), list(graph[box])
        while waiting:
            if (other := waiting.pop()) not in seen:
                seen.add(other)
                waiting += graph[other]
        needed[box] = seen
    return needed


def floors_of(graph: Mapping[str, set[str]], needed: Mapping[str, set[str]]) -> dict[str, int]:
    """The floor of each box: one above the highest that it needs, but for those in a circle with it."""
    floors: dict[str, int] = {}
    for box in sorted(graph, key=lambda each: len(needed[each] | {each})):
        circle = {other for other in needed[box] if box in needed[other]} | {box}
        below = {other for member in circle for other in graph[member]} - circle
        floors[box] = 1 + max((floors[other] for other in below), default=0)
    return floors


def drawn(graph: Mapping[str, set[str]], needed: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    """The arrows: imports that do not follow from others, and all of a circle."""
    for box, imported in graph.items():
        for other in sorted(imported):
            circle = box in needed[other]
            if circle or not any(other in needed[way] and box not in needed[way] for way in imported - {other}):
                yield box, other


def boxes_of(files: Mapping[str, list[tuple[str, Path]]], floors: Mapping[str, int], root: Path) -> dict[str, Box]:
    """Boxes with the names of their files."""
    inside = {box: [file.stem for _, file in modules if file.stem != "__init__"] for box, modules in files.items()}
    inside[f"{ENGINE}/"] = [file.name for file in sorted((root / ENGINE).glob("*.[ch]"))]
    lines = {name: textwrap.wrap(" ".join(names), COLUMN) if name.endswith("/") else [] for name, names in inside.items()}
    return {name: Box(name, lines[name], floor) for name, floor in floors.items()}


def connect(upper: Box, lower: Box, rows: dict[int, list[Box]]) -> list[Box]:
    """The way of an arrow, with a place on each floor between."""
    way = [upper, *(Box(floor=floor) for floor in range(upper.floor - 1, lower.floor, -1)), lower]
    for step in way[1:-1]:
        rows[step.floor].append(step)
    for one, other in pairwise(way):
        one.below.append(other)
        other.above.append(one)
    return way


def place(row: list[Box], neighbors: str) -> None:
    """Move the boxes of a floor as near to their neighbors as their order and widths allow: isotonic regression."""
    wanted = {box: sum(other.x for other in near) / len(near) if (near := getattr(box, neighbors)) else box.x for box in row}
    row.sort(key=wanted.__getitem__)
    offsets, at = [], 0.0
    for index, box in enumerate(row):
        at += (row[index - 1].width + box.width) / 2 + GAP if index else 0.0
        offsets.append(at)
    blocks: list[list[float]] = []  # sum and number of those that lie side by side
    for box, offset in zip(row, offsets, strict=True):
        blocks.append([wanted[box] - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, number = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += number
    starts = [total / number for total, number in blocks for _ in range(int(number))]
    for box, offset, start in zip(row, offsets, starts, strict=True):
        box.x = start + offset


def arrange(rows: dict[int, list[Box]]) -> None:
    """Give each box its place: near the boxes that it imports, and near those that import it, in turn."""
    for row in rows.values():
        place(row, "above")
    for sweep in range(SWEEPS):
        for floor in sorted(rows, reverse=sweep % 2 == 0):
            place(rows[floor], "above" if sweep % 2 == 0 else "below")
    top = 0.0
    for floor in sorted(rows, reverse=True):
        ground = top - max(box.height for box in rows[floor])
        for box in rows[floor]:
            box.top, box.ground = top, ground
        top = ground - FLOOR_GAP


def draw_box(axes: Axes, box: Box) -> None:
    folder = box.name.endswith("/")
    corner, style = (box.x - box.width / 2, box.top - box.height), "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch(corner, box.width, box.height, boxstyle=style, fc=FACE if folder else FILE_FACE, ec=ARROW, zorder=2))
    axes.text(box.x, box.top - PAD, box.name, ha="center", va="top", size=9.5, weight="bold" if folder else "normal", color=INK, zorder=3)
    for index, line in enumerate(box.lines, 1):
        axes.text(box.x, box.top - PAD - index * LINE_HEIGHT, line, ha="center", va="top", size=7.5, color=GREY, zorder=3)


def draw_way(axes: Axes, way: list[Box]) -> None:
    """An arrow down, through its places; within a floor, which is part of a circle, a red one."""
    if way[0].floor == way[-1].floor:
        ends, bend = [(box.x, box.top) for box in way], 2 * ARC / abs(way[0].x - way[1].x)
        style = f"arc3,rad={-bend if way[0].x < way[1].x else bend}"
        axes.add_patch(FancyArrowPatch(*ends, connectionstyle=style, arrowstyle="-|>", mutation_scale=8, color=RED, zorder=1))
        return
    points, codes = [(way[0].x, way[0].top - way[0].height)], [Line.MOVETO]
    for upper, lower in pairwise(way):
        middle = (upper.ground + lower.top) / 2
        points += [(upper.x, upper.ground), (upper.x, middle), (lower.x, middle), (lower.x, lower.top)]
        codes += [Line.LINETO, *[Line.CURVE4] * 3]
    axes.add_patch(FancyArrowPatch(path=Line(points, codes), arrowstyle="-|>", mutation_scale=8, color=ARROW, linewidth=0.9, zorder=1))


def main(out: Path) -> None:
    """Write the picture."""
    files = files_of(ROOT)
    graph = graph_of(files)
    needed = reach(graph)
    boxes = boxes_of(files, floors_of(graph, needed), ROOT)
    rows: dict[int, list[Box]] = {}
    for box in boxes.values():
        rows.setdefault(box.floor, []).append(box)
    ways = [connect(boxes[upper], boxes[lower], rows) for upper, lower in drawn(graph, needed)]
    arrange(rows)
    places = [box for row in rows.values() for box in row]
    left, right = min(box.x - box.width / 2 for box in places) - 0.3, max(box.x + box.width / 2 for box in places) + 0.3
    bottom = min(box.top - box.height for box in places) - 0.5
    with matplotlib.rc_context({"font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(right - left, 0.3 - bottom))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, 0.3))
        axes.set_axis_off()
        for way in ways:
            draw_way(axes, way)
        for box in boxes.values():
            draw_box(axes, box)
        said = f"An arrow is an import; imports that follow from others are not drawn. {len(boxes)} boxes, {len(rows)} floors."
        axes.text(left + 0.2, bottom + 0.15, said, size=8, color=GREY)
        figure.savefig(drawn_as := io.BytesIO(), dpi=110)
    Image.open(drawn_as).convert("RGB").quantize(COLORS).save(out, optimize=True)  # a tenth of the bytes


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "architecture.png")
