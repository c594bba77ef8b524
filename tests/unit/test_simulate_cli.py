"""``dkcore simulate``: its tables, its JSON, its files, and what it says to bad input."""

import json
import re

import pytest
from click.testing import CliRunner
from PIL import Image

from dkcore.cli import main
from dkcore.commands import units

PNG = {"staleness.png", "scaling.png"}


def simulate(*arguments: object):
    return CliRunner().invoke(main, ["simulate", *map(str, arguments)])


def found(*arguments: object) -> dict:
    """The JSON of a simulation that succeeds."""
    done = simulate("--json", *arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_tables_name_what_was_asked_for():
    done = simulate("--rule", "DynSGD", "--workers", 12, "--nodes", 3, "--exchanges", 20, "--window", 7)
    assert done.exit_code == 0, done.output
    text = re.sub(r"[^\w.,%()/-]+", " ", done.output)
    pieces = ["dynsgd, 12 workers on 3 nodes, window 7", "staleness mean", "240, ", "samples a second", "a leader sends"]
    for piece in [*pieces, "19.20 MB 1.000", "25.60 MB 1.333", "28.80 MB 1.500"]:
        assert piece in text


def test_json_has_the_prediction_its_scaling_and_the_law_of_bytes():
    report = found("--workers", 12, "--nodes", 4, "--duration", "20s", "--weights", "1e6", "--merge-compression", "int8")
    assert report["elapsed"] == 20
    assert report["mean_staleness"] == pytest.approx(11, rel=0.1)
    assert report["staleness_p5"] <= report["staleness_p50"] <= report["staleness_p99"]
    assert [(run["workers"], run["nodes"]) for run in report["scaling"]] == [(1, 1), (2, 2), (4, 4), (8, 4), (12, 4)]
    assert report["scaling"][-1]["samples_per_s"] == report["samples_per_s"]
    assert report["bytes_per_merge_by_nodes"] == pytest.approx({"2": 1e6, "3": 4e6 / 3, "4": 1.5e6}, rel=0.005)


def test_options_reach_the_simulation():
    plain = found("--workers", 4, "--jitter", 0)
    assert plain["exchanges"] == 400
    assert found("--workers", 4, "--jitter", 0, "--step-time", "20ms")["elapsed"] == pytest.approx(2 * plain["elapsed"], rel=0.1)
    assert found("--workers", 4, "--straggler", "3:2.0", "--straggler", "1:2.0")["elapsed"] > 1.8 * plain["elapsed"]
    bound = found("--workers", 4, "--jitter", 0, "--max-staleness", 0, "--straggler", "0:3", "--duration", "9s")
    assert 4 * 24 <= bound["exchanges"] <= 4 * 24 + 3  # the straggler's 24, and those of three who are one ahead
    slow = found("--workers", 4, "--exchange-time", "1s", "--lanes", 1, "--duration", "100s")
    assert slow["exchanges_per_s"] == pytest.approx(1, rel=0.02)
    merges = {
        pace: found("--workers", 4, "--nodes", 2, "--link", "100gbit", "--duration", "10s", "--merge-every", pace)["merges"]
        for pace in ("1s", "10")
    }
    assert merges["1s"] == 9
    assert merges["10"] == pytest.approx(10 * 2 / 0.13 / 10, abs=2)  # 2 workers of a node, a window of 12 steps and an exchange


def test_ten_thousand_workers_leave_their_plots(tmp_path):
    done = simulate("--workers", 10_000, "--nodes", 8, "--exchanges", 4, "--weights", "1e5", "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "new").iterdir()} == PNG | {"simulation.json"}
    assert "scaling.png  staleness.png" in done.output
    for name in PNG:
        with Image.open(tmp_path / "new" / name) as image:
            assert image.size == (768, 480)
    assert json.loads((tmp_path / "new" / "simulation.json").read_text())["exchanges"] == 40_000


def test_a_model_learns_digits_with_the_trainers_own_step(tmp_path):
    report = found("--rule", "EAMSGD", "--model", "mlp", "--workers", 2, "--exchanges", 8, "--window", 8, "--out", tmp_path)
    assert report["accuracy"] > 0.7
    assert report["accuracy"] != found("--rule", "AEASGD", "--model", "mlp", "--workers", 2, "--exchanges", 8, "--window", 8)["accuracy"]
    assert {path.name for path in tmp_path.iterdir()} == PNG | {"simulation.json", "training.png"}
    done = simulate("--model", "mlp", "--workers", 2, "--exchanges", 4, "--optimizer", "sgd", "--learning-rate", 0.5)
    assert "accuracy" in done.output


@pytest.mark.parametrize("method", ["averaging", "easgd", "diloco", "slowmo"])
def test_synchronous_methods_are_timed(method):
    report = found("--rule", method, "--workers", 4, "--nodes", 2, "--exchanges", 5)
    assert (report["exchanges"], report["merges"], report["mean_staleness"]) == (20, 5, 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--workers", "many"], "a whole number such as 12 or 4.8e6"),
        (["--workers", "1.5"], "It must have no fraction"),
        (["--workers", "0"], "workers: a whole number of 1 or more. Received: 0"),
        (["--nodes", 9], "at most one node a worker (8). Received: 9"),
        (["--step-time", "10m"], "a time such as 10ms, 0.5s or 2min"),
        (["--link", "1gbt"], "a speed such as 1gbit"),
        (["--straggler", "3"], "WORKER:FACTOR. Received: '3'"),
        (["--straggler", "8:2"], "workers of 0 to 7"),
        (["--merge-every", "soon"], "a time such as"),
        (["--merge-every", "0"], "merge_every: 'auto'"),
        (["--merge-compression", "gzip"], "a codec: none, bf16, fp16, int8, or topk:FRACTION"),
        (["--rule", "sgd"], "a trainer of SingleTrainer"),
        (["--scalar", "alpha"], "--scalar NAME=VALUE"),
        (["--scalar", "beta=1"], "unknown: beta"),
        (["--exchanges", 0], "--exchanges of 1 or more"),
        (["--duration", "0s"], "a duration of more than 0 s"),
        (["--rule", "easgd", "--model", "mlp"], "a rule of an asynchronous method"),
        (["--model", "mlp", "--workers", "2000"], "at most 1000 workers that train"),
    ],
)
def test_bad_input_is_answered_in_words(arguments, text):
    done = simulate(*arguments)
    assert done.exit_code != 0
    assert text in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("text", ["", "ms", "1.2.3s", "1e999", "nan", "-1s", "1 parsec"])
def test_what_is_no_quantity_is_refused(text):
    for read in (units.seconds, units.bytes_per_second, units.number):
        with pytest.raises(ValueError, match="Received: "):
            read(text)


def test_bits_and_bytes_are_told_apart():
    assert units.bytes_per_second("8Mb/s") == units.bytes_per_second("8mbit") == 1e6
    assert units.bytes_per_second("8MB/s") == units.bytes_per_second("8e6") == 8e6
