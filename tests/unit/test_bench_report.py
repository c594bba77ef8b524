"""The report of a run: flat keys of known kinds, a page with every figure, pictures drawn from the flat keys alone."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from reports import PEERS, flat, synthetic, written

from bench.harness.figure import Figure
from bench.report import draw_peers, draw_roofline, plots
from bench.report.drawing import NoDataError, pretty
from bench.report.page import page, write_report
from bench.report.plots import DRAWINGS
from bench.report.reading import KINDS, Reading

ROOT = Path(__file__).parents[2]
GOAL = str(Figure("exchange_us/1000", 1.0).goal)  # whatever it is now
PLANTED = """
from bench.harness.case import Case

def cases(quick):
    return [Case("good/one")] + ([] if quick else [Case("left_out/one"), Case("good/two")])

def bench_planted(case, turns):
    turns({"side": lambda: 1.0}, rounds=1, verify=lambda: None)
    turns.figure(case.keys[0], [1.0])
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(Reading(flat()), folder)
    return folder


def test_keys_are_of_known_kinds_and_values_of_their_types(report):
    found = json.loads((report / "report.json").read_text())
    numbers = {"spread", "run/seconds", "machine/cores", "machine/memory_bytes", "machine/load_before", "machine/page_bytes"}
    told = {"commit", "run/started", "run/kind", "machine/processor", "version/python", "version/numpy"}
    assert told | (numbers - {"spread"}) <= found.keys()
    for key, value in found.items():
        kind, *rest = key.split("/")
        if kind not in KINDS or kind == "spread" or key in numbers:
            assert type(value) in (int, float), key
        elif kind != "machine":
            assert type(value) is str and value, key
        if kind in ("spread", "unit", "goal", "verdict", "note"):
            assert "/".join(rest) in found, f"{key} is of no figure"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["run/started"])
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|unknown", found["commit"])


def test_what_was_written_is_read_again():
    report, reading = synthetic(), Reading(flat())
    assert reading.all_figures == report.figures
    assert reading.under("failed") == report.failed and reading.under("absent") == report.absent
    assert reading.goal("exchange_us/1000") == GOAL and reading.verdict("exchange_us/1000") == "pass"
    assert [len(points) for points in reading.curves("training_loss").values()] == [12] * 4
    assert not any(key.startswith("training_") for key in reading.figures)


def test_something_else_is_no_report(tmp_path):
    for text in ("[]", "{}"):
        with pytest.raises(ValueError, match="Expected a report with flat keys"):
            Reading.load(written(tmp_path / "other.json", json.loads(text)))
    with pytest.raises(ValueError, match="Expecting value"):
        Reading.load(ROOT / "README.md")


@pytest.mark.parametrize(("figure", "why"), [("spread/one", "not one of"), ("exchange_us/1000", "again"), ("good/one", "finite")])
def test_figures_that_a_report_cannot_hold_are_refused(figure, why):
    with pytest.raises(ValueError, match=why):
        synthetic().add(Figure(figure, float("nan") if why == "finite" else 1.0))


def test_the_page_has_every_figure_with_its_value_goal_and_note(report):
    text, reading = (report / "REPORT.md").read_text(), Reading.load(report / "report.json")
    for key, figure in reading.figures.items():
        assert text.count(f"\n| `{key}` |") == (2 if reading.goal(key) else 1), key
        assert f"{figure.spread:.0%}" in next(line for line in text.splitlines() if f"`{key}`" in line)
    assert f"| `exchange_us/1000` | 1.1 us | 5% | {GOAL.replace('<', '&lt;')} | pass | as a script calls it |" in text
    assert "3 of 4 goals were met" in text
    assert "    python -m bench\n" in text
    part = page(Reading(flat(run__only="vs_*'", run__kind="quick")), {})
    assert "    python -m bench --quick --only 'vs_*'\"'\"''\n" in part
    assert text.index("### Missed") < text.index("`exchange_vs_unlocked/adag/67108864/2workers`") < text.index("### Met")
    assert "- `peer_us/tensorflow/1000/1workers`: tensorflow is not installed: pip install tensorflow \\| or not" in text
    assert "- `simulation/staleness/8workers`: AssertionError: 1 + 1 is not 3" in text
    assert "## How fast are others?" in text and "    python -m bench --only peer_us\n    python -m bench --only vs_dist_keras\n" in text
    assert "| update | 260 | 520 | 95 | 190 | 30 | 60 | 13 | 26 |" in text
    assert "{{" not in text and "\n\n\n" not in text


def test_pictures_are_made(report):
    for name in DRAWINGS:
        with Image.open(report / "plots" / f"{name}.png") as picture:
            assert picture.format == "PNG" and min(picture.size) > 500
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 50, f"{name}.png is empty"
        assert f"(plots/{name}.png)" in (report / "REPORT.md").read_text()


def test_pictures_without_data_are_left_out_and_the_page_says_so(tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "peers.png").write_text("of an older run")
    kept = {key: value for key, value in flat().items() if "peer_us" not in key and "training_loss" not in key}
    write_report(Reading(kept), tmp_path)
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == set(DRAWINGS) - {"peers", "loss"}
    text = (tmp_path / "REPORT.md").read_text()
    assert "`peers.png` was not drawn. It needs figures peer_us/NAME/SIZE/Nworkers" in text
    assert "plots/peers.png" not in text


def test_a_report_with_nothing_but_a_machine_has_a_page():
    bare = {key: value for key, value in flat().items() if key.startswith("machine/") or key == "commit"}
    for draw in DRAWINGS.values():
        with pytest.raises(NoDataError):
            draw(Reading(bare))
    assert "0 of 0 goals were met" in page(Reading(bare), {})


def test_pictures_say_what_the_data_says():
    reading = Reading(flat())
    assert draw_peers.message(draw_peers.times(reading)) == "An exchange of dkcore is 2.6 to 3.8 times as fast as the best peer's"
    slow = Reading(flat(peer_us__dkcore__1000__1workers=1e9))
    assert draw_peers.message(draw_peers.times(slow)).startswith("dkcore is the fastest at 9 of 10 sizes")
    assert draw_roofline.roof(reading, 8)[-1] == ("memory", float("inf"), 26.0)  # of 2 threads: there are no more cores
    assert [level for level, _, _ in draw_roofline.roof(reading, 1)] == ["L1", "L2", "L3", "memory"]
    assert DRAWINGS["roofline"](reading).get_suptitle() == "Beyond the caches, exchanges run at 94% of the memory's speed"
    paired = Reading(flat(exchange_vs_triad__adag__67108864__2workers=0.97, exchange_vs_triad__adag__1000__2workers=9.0))
    title = "Beyond the caches, exchanges move memory 0.97 times as fast as the machine's triad"
    assert DRAWINGS["roofline"](paired).get_suptitle() == title
    assert DRAWINGS["scaling"](reading).get_suptitle() == "2 workers do 1.9 times the work of one"
    assert DRAWINGS["staleness"](reading).get_suptitle() == "An exchange finds 7.1 commits by others with 8 workers"
    first = "dkcore (jax, adag) is the first at a loss of 0.077: in 12 s; dkcore (torch, adag) takes 19.2 s"
    assert DRAWINGS["loss"](reading).get_suptitle() == first
    assert DRAWINGS["merge"](reading).get_suptitle() == "Over 10 Gbit/s, topk:0.01 merges 21 times as fast as no compression"


def test_every_peer_is_named_in_its_picture():
    axes = DRAWINGS["peers"](Reading(flat())).axes
    assert [{text.get_text() for text in panel.texts} for panel in axes] == [{pretty(name) for name in PEERS}] * 2
    assert all(panel.get_xscale() == panel.get_yscale() == "log" for panel in axes)


def test_pictures_are_drawn_again_from_the_file(report, tmp_path):
    command = [sys.executable, "-m", "bench.report.plots", str(report / "report.json"), str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png" for name in plots.DRAWINGS}


def test_a_question_that_a_quick_run_leaves_out_fails_it(tmp_path):
    (tmp_path / "bench_planted.py").write_text(PLANTED)
    options = ["-c", str(ROOT / "bench" / "pytest.ini"), "-p", "bench.conftest", f"--rootdir={tmp_path}", f"--json={tmp_path}/found.json"]
    for quick, code in ((["--quick"], 1), ([], 0), (["--quick", "--only=good"], 0)):
        command = [sys.executable, "-m", "pytest", *options, *quick, str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout
        found = json.loads((tmp_path / "found.json").read_text())
        assert ("failed/left_out" in found) == bool(code)
    assert found["run/kind"] == "quick"
