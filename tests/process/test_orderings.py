"""What a correct implementation shows on 4,000 digits: orderings, by margins of 3 standard deviations, never accuracies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
MINUTES = 20  # on a machine that does other things too; 3 on one core alone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 * MINUTES)]


def python(*arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, timeout=60 * MINUTES, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> dict:
    """What examples/orderings.py finds; its plot is there."""
    plot = tmp_path_factory.mktemp("orderings") / "orderings.png"
    python("orderings.py", plot)
    assert 20_000 < plot.stat().st_size < 150_000
    return json.loads(plot.with_suffix(".json").read_text())


def margin(better: list[float], worse: list[float]) -> float:
    """By how many standard deviations one mean over seeds is above the other."""
    difference = np.mean(better) - np.mean(worse)
    return difference / np.sqrt((np.var(better, ddof=1) + np.var(worse, ddof=1)) / len(better))


def test_mean_staleness_is_the_number_of_others(shown):
    assert {int(workers): round(value, 1) for workers, value in shown["staleness"].items()} == {5: 3.9, 10: 8.9, 20: 18.7, 40: 38.4}


def test_downpour_diverges_with_the_window_and_agn_does_not(shown):
    downpour, agn = ([shown["accuracy"][f"{rule} window {window}"] for window in (1, 5, 10, 20)] for rule in ("downpour", "adag"))
    for small, large in ((0, 1), (1, 3), (0, 3)):
        assert margin(downpour[small], downpour[large]) > 3
    for window in (1, 2, 3):
        assert margin(agn[window], downpour[window]) > 3
    assert np.mean(agn[0]) - np.mean(agn[3]) < 6


def test_downpour_decays_with_the_workers(shown):
    few, some, many = (shown["accuracy"][f"downpour workers {workers}"] for workers in (5, 20, 40))
    assert margin(few, some) > 3
    assert margin(some, many) > 3


def test_agn_falls_among_forty_and_distance_damping_brings_it_back(shown):
    accuracy = shown["accuracy"]
    assert margin(accuracy["adag window 10"], accuracy["adag 40"]) > 3
    assert margin(accuracy["adag_distance 40"], accuracy["adag 40"]) > 3


def test_eamsgd_beats_that_of_dist_keras(shown):
    assert margin(shown["accuracy"]["eamsgd"], shown["accuracy"]["eamsgd of dist-keras"]) > 3


def test_dynsgd_equals_consgd_when_workers_are_alike(shown):
    dynsgd, consgd = shown["accuracy"]["dynsgd"], shown["accuracy"]["consgd"]
    assert abs(np.mean(dynsgd) - np.mean(consgd)) < 4  # 4 standard deviations of the difference of these means


def test_positions_of_nodes_are_averaged_and_progress_is_added_up_while_merges_are_frequent():
    cases = [("aeasgd", 5, 1.0), ("aeasgd", 5, 0.25), ("adag", 1, 1.0), ("adag", 1, 0.25), ("adag", 20, 1.0), ("adag", 20, 0.25)]
    code = f"import json, merge_scale as m\nprint(json.dumps([m.digits(rule, 10, every, scale) for rule, every, scale in {cases}]))"
    found = dict(zip(cases, json.loads(python("-c", code)), strict=True))
    assert margin(found["aeasgd", 5, 0.25], found["aeasgd", 5, 1.0]) > 3
    assert margin(found["adag", 1, 1.0], found["adag", 1, 0.25]) > 3
    assert margin(found["adag", 20, 0.25], found["adag", 20, 1.0]) > 3
