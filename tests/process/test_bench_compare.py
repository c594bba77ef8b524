"""``--compare``: what became worse is found, noise is not, and the exit code says it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reports import flat, written

from bench.harness.figure import Figure
from bench.report.compare import compare
from bench.report.direction import better
from bench.report.reading import Reading

ROOT = Path(__file__).parents[2]


def changes(threshold=0.25, only=None, old=None, **new) -> dict[str, str]:
    found = compare(Reading(old or flat()), Reading(flat(**new)), threshold, only)
    return {change.key: change.what for change in found.changes if change.what != "FAILED"}


def bench(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, check=False)


@pytest.fixture
def files(tmp_path):
    """A report, and one without its failed case; as a function of what differs."""

    def make(name: str, **different) -> Path:
        found = flat(**different)
        del found["failed/simulation/staleness/8workers"]
        return written(tmp_path / f"{name}.json", found)

    return make


def test_a_planted_slow_case_is_flagged_and_fails(files):
    done = bench("--compare", files("old"), files("new", exchange_us__1000=2.2))
    assert done.returncode == 1
    assert "exchange_us/1000" in done.stdout and "+100%" in done.stdout and "REGRESSED" in done.stdout
    assert "exchange_gbps" not in done.stdout


def test_noise_is_not_flagged(files):
    done = bench("--compare", files("old"), files("new", exchange_us__1000=1.1 * 1.09, vs_dist_keras__1000000__2workers=60 * 0.85))
    assert done.returncode == 0, done.stdout
    assert "nothing changed beyond the noise" in done.stdout
    assert changes(exchange_vs_unlocked__adag__67108864__2workers=0.6) == {}  # each run is noisy by 30 %


def test_the_noise_is_that_of_both_runs():
    key = "exchange_us/1000"
    assert changes(exchange_us__1000=1.1 * 1.4) == {key: "REGRESSED"}
    assert changes(exchange_us__1000=1.1 * 1.4, spread__exchange_us__1000=0.5) == {}
    assert changes(old=flat(spread__exchange_us__1000=0.5), exchange_us__1000=1.1 * 1.4) == {}


def test_only_what_is_beyond_the_threshold_is_a_regression(files):
    old, new = files("old"), files("new", exchange_us__1000=1.1 * 1.2)
    assert [bench("--compare", old, new, *more).returncode for more in ((), ("--threshold", "0.15"))] == [0, 1]
    assert changes(exchange_us__1000=1.1 * 1.2) == {"exchange_us/1000": "slower"}
    assert changes(exchange_us__1000=0.5) == {"exchange_us/1000": "faster"}


def test_more_is_better_for_ratios_and_bandwidths():
    assert changes(vs_dist_keras__1000000__2workers=30.0) == {"vs_dist_keras/1000000/2workers": "REGRESSED"}
    assert changes(vs_dist_keras__1000000__2workers=120.0) == {"vs_dist_keras/1000000/2workers": "faster"}
    assert changes(exchange_gbps__adag__1000__1workers=1.0) == {"exchange_gbps/adag/1000/1workers": "REGRESSED"}


def test_what_nobody_can_judge_is_only_said_to_have_changed():
    assert changes(staleness__8workers=14.0) == {"staleness/8workers": "changed"}
    assert changes(peer_us__ray__1000__1workers=1e9) == {"peer_us/ray/1000/1workers": "changed"}
    assert changes(peer_us__dkcore__1000__1workers=1e9) == {"peer_us/dkcore/1000/1workers": "REGRESSED"}
    assert changes(roof__read__memory__1threads=0.1) == {"roof/read/memory/1threads": "changed"}
    assert changes(old=flat(staleness__1workers=3.0)) == {"staleness/1workers": "changed"}  # to 0, of which there is no ratio


def test_keys_that_vanish_or_come_are_reported(files):
    old, new = flat(gone__one=1.0), flat(come__one=1.0)
    found = compare(Reading(old), Reading(new | {"absent/gone/one": "not installed"}))
    assert {change.key: (change.what, change.note) for change in found.changes if change.what != "FAILED"} == {
        "gone/one": ("vanished", "not installed"), "come/one": ("new", ""),
    }  # fmt: skip
    done = bench("--compare", files("old", gone__one=1.0), files("new"))
    assert "gone/one" in done.stdout and "vanished" in done.stdout


def test_a_run_of_a_part_is_compared_with_that_part():
    assert changes(only="exchange_us", old=flat(gone__one=1.0, exchange_us__1000=0.1)) == {"exchange_us/1000": "REGRESSED"}


def test_a_case_that_fails_is_a_regression():
    assert compare(Reading(flat()), Reading(flat())).regressed  # simulation/staleness/8workers
    fine = flat()
    del fine["failed/simulation/staleness/8workers"]
    assert not compare(Reading(flat()), Reading(fine)).regressed


def test_another_machine_is_mentioned(files):
    done = bench("--compare", files("old", machine__processor="A Better One"), files("new"))
    assert done.returncode == 0 and "Another processor: A Better One, now" in done.stdout


def test_a_run_is_compared_with_a_report(tmp_path):
    written(tmp_path / "old.json", flat() | {"exchange_us/1000/single": 1e-6, "unit/exchange_us/1000/single": "us"})
    arguments = ["--quick", "--only", "exchange_us/1000/single", "--compare", tmp_path / "old.json", "--report", tmp_path / "report"]
    done = bench(*arguments)
    assert done.returncode == 1 and "REGRESSED" in done.stdout, done.stdout + done.stderr
    assert {"REPORT.md", "report.json"} <= {path.name for path in (tmp_path / "report").iterdir()}


@pytest.mark.parametrize("names", [["missing.json"], ["other.json"], ["old.json"] * 3])
def test_what_cannot_be_compared_is_refused_before_anything_runs(files, tmp_path, names):
    files("old")
    written(tmp_path / "other.json", {})
    done = bench("--compare", *[tmp_path / name for name in names])
    assert done.returncode == 2 and "error:" in done.stderr and not done.stdout


def test_directions():
    told = {"exchange_share/demo": "less", "merge_vs_allreduce/1/2nodes": "less", "import_s/dkcore": "less", "fairness/1/8workers": "more",
            "simulation/staleness/2workers": None, "what_nobody_knows/one": None, "exchange_vs_triad/adag/1/1workers": "more"}  # fmt: skip
    assert {key: better(Figure(key, 1.0)) for key in told} == told
    assert better(Figure("what_nobody_knows/one", 1.0, unit="GB/s")) == "more"
    assert better(Figure("what_nobody_knows/one", 1.0, unit="bytes")) == "less"
