"""The pictures of a report: ``python -m bench.report.plots report.json DIR`` draws them again."""

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from bench.report.draw_merge import merge
from bench.report.draw_peers import peers
from bench.report.draw_roofline import roofline
from bench.report.draw_training import loss
from bench.report.draw_workers import scaling, staleness
from bench.report.drawing import NoDataError
from bench.report.reading import Reading
from dkcore.report.plot import STYLE

__all__ = ["DRAWINGS", "draw_all"]

DRAWINGS: dict[str, Callable[[Reading], Figure]] = {
    "roofline": roofline,
    "peers": peers,
    "staleness": staleness,
    "scaling": scaling,
    "loss": loss,
    "merge": merge,
}


def draw_all(reading: Reading, folder: Path) -> dict[str, str]:
    """Write a PNG for each picture that the report has data for; what the others would need, by name.

    An old picture that cannot be drawn again is removed: it would be of another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = {}
    for name, draw in DRAWINGS.items():
        path = folder / f"{name}.png"
        try:
            with matplotlib.rc_context(STYLE):
                draw(reading).savefig(path, facecolor="white")
        except NoDataError as needed:
            missing[name] = str(needed)
            path.unlink(missing_ok=True)
    return missing


if __name__ == "__main__":
    file, place = map(Path, sys.argv[1:])
    for name, needed in draw_all(Reading.load(file), place).items():
        print(f"{name}.png was not drawn. It needs {needed}.")
