"""The command line, as a stranger uses it: MNIST end to end, the three backends, and what it says when something is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dkcore import center
from dkcore.cli import main
from dkcore.commands.model_file import locate_model
from dkcore.errors import ModelError
from dkcore.report import history
from dkcore.rules import REGISTRY

EXAMPLES = Path(__file__).parents[2] / "examples"
REPORT = (
    "trainer workers window epochs samples exchanges training_time_s samples_per_s exchange_share mean_staleness test_loss test_accuracy"
)


def dkcore(*arguments: object, timeout: float = 280, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "dkcore", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)


def train(out: Path, *arguments: object) -> dict:
    """A training that succeeds; its report."""
    run = dkcore("train", "--out", out, *arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads((out / "report.json").read_text())


@pytest.mark.parametrize(("trainer", "accuracy"), [("adag", 0.955), ("aeasgd", 0.97)])
def test_mnist_end_to_end(tmp_path, trainer, accuracy):
    model = f"{EXAMPLES}/mnist.py:mlp"
    options = "--data", "mnist", "--trainer", trainer, "--epochs", 3, "--window", 12, "--backend", "tensorflow"
    report = train(tmp_path, "--model", model, *options)
    assert report["test_accuracy"] > accuracy
    assert report["samples"] == 3 * 60000
    assert report["exchanges"] == 2 * 3 * -(-938 // 12)
    assert 0 < report["exchange_share"] < 0.1
    assert report["mean_staleness"] == pytest.approx(1, abs=0.5)  # n - 1, for two workers alike
    assert set(REPORT.split()) <= set(report)
    table = history.read(tmp_path / "history.parquet")
    assert {"worker", "step", "time", "loss", "accuracy", "staleness"} <= set(table.column_names)
    assert set(table["worker"].to_pylist()) == {-1, 0, 1}
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "model.keras").stat().st_size > 2_000_000


@pytest.mark.parametrize(("backend", "level"), [("tensorflow", "tensorflow-op"), ("jax", "jax-pointer"), ("torch", "torch-pointer")])
def test_every_backend_trains_through_the_center(tmp_path, tiny, backend, level):
    report = train(
        tmp_path, "--model", f"{tiny}/models.py:small", "--data", tiny / "data.npz", "--backend", backend,
        "--epochs", 8, "--learning-rate", 0.02, "--trainer", "aeasgd", "--scalar", "alpha=0.4", "--window", 4, "--scale", 0.01,
    )  # fmt: skip
    losses = [row["loss"] for row in history.read(tmp_path / "history.parquet").to_pylist() if row["worker"] == -1]
    assert report["replica"] == level  # in place, without copies
    assert report["test_loss"] < 0.6 * losses[0]
    assert report["samples"] == 8 * 501


def test_a_saved_model_is_trained_on(tmp_path, tiny, monkeypatch):
    import keras

    sys.path.append(str(tiny))
    from models import small

    small().save(tmp_path / "small.keras")
    report = train(tmp_path / "out", "--model", tmp_path / "small.keras", "--data", tiny / "data.npz", "--backend", keras.backend.backend(),
                   "--trainer", "dc_asgd", "--quiet")  # fmt: skip
    assert (report["trainer"], report["workers"]) == ("dc_asgd", 2)
    assert keras.saving.load_model(tmp_path / "out" / "model.keras").count_params() == small().count_params()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "missing.py:f"], "Expected a file with the model. Received: 'missing.py'"),
        (["--model", "{tiny}/models.py"], "Expected FILE.py:FUNCTION or FILE.keras"),
        (["--model", "{tiny}/models.py:smal"], "models.py. Received: none of that name. Did you mean 'small'?"),
        (["--data", "missing.npz"], "missing.npz"),
        (["--trainer", "adagg"], "Expected a trainer of SingleTrainer, DOWNPOUR, ADAG"),
        (["--scalar", "alpha"], "Expected --scalar NAME=VALUE"),
        (["--scalar", "alpha=1"], "unknown: alpha"),
        (["--workers", "0"], "workers of 1 or more"),
        (["--trainer", "SingleTrainer", "--workers", "2"], "1 worker for plain training"),
        (["--trainer", "EAMSGD", "--optimizer", "adam"], "no --optimizer for EAMSGD"),
        (["--window", "-1"], "window of 1 or more"),
        (["--workers", "502"], "501 samples"),
        (["--mpi", "no-such-mpiexec"], "pip install"),
    ],
)
def test_what_is_wrong_is_said_before_any_rank_starts(tmp_path, tiny, arguments, message):
    options = {"--model": f"{tiny}/models.py:small", "--data": f"{tiny}/data.npz", "--out": str(tmp_path)}
    options |= dict(zip(arguments[::2], (word.format(tiny=tiny) for word in arguments[1::2]), strict=True))
    result = CliRunner().invoke(main, ["train", *(word for pair in options.items() for word in pair)])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_what_is_wrong_in_a_rank_is_said_with_its_traceback(tmp_path, tiny):
    run = dkcore("train", "--model", f"{tiny}/models.py:nothing", "--data", tiny / "data.npz", "--backend", "jax", "--out", tmp_path)
    assert run.returncode == 1
    lines = run.stderr.rstrip().splitlines()
    assert re.match(r"Error: rank \d on \S+: ModelError: .* that returns a Keras model\. Received: 42", lines[-1])
    assert "Traceback (most recent call last):" in lines
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "there"),
    [
        ("def build(): pass", True),
        ("from elsewhere import make as build", True),
        ("if True:\n    build = 1", True),
        ("def set_up():\n    global build\n    build = 1", True),
        ("for build, _ in []: pass", True),
        ("from elsewhere import *", True),  # it may be, or not: the ranks will know
        ("globals().update(build=1)", True),
        ("def __getattr__(name): return 1", True),
        ("def other():\n    build = 1", False),
        ("import build.models as other", False),
        ("print(build)", False),
    ],
)
def test_whether_a_file_has_the_function_is_seen_without_running_it(tmp_path, source, there):
    file = tmp_path / "model.py"
    file.write_text(f"{source}\nraise SystemExit('it was run')\n")
    if there:
        assert locate_model(f"{file}:build") == f"{file}:build"
    else:
        with pytest.raises(ModelError, match="Expected a function 'build' in .*model.py. Received: none of that name"):
            locate_model(f"{file}:build")


def test_a_file_that_is_no_python_is_refused(tmp_path):
    (tmp_path / "model.py").write_text("def build(:\n")
    with pytest.raises(ModelError, match=r"a Python file with the model\. Received: .*invalid syntax \(model.py, line 1\)"):
        locate_model(f"{tmp_path}/model.py:build")


def test_data_of_another_shape_are_refused_once_before_the_first_step(tmp_path, tiny):
    with np.load(tiny / "data.npz") as data:
        np.savez(tmp_path / "flat.npz", x_train=data["x_train"].reshape(501, 4), y_train=data["y_train"])
    out = tmp_path / "out"
    run = dkcore("train", "--model", f"{tiny}/models.py:small", "--data", tmp_path / "flat.npz", "--backend", "jax", "--out", out)
    last = run.stderr.rstrip().splitlines()[-1]
    assert last.endswith("DataError: Expected samples of shape (2, 2). Received: x of shape (4,). Reshape it: x.reshape(-1, 2, 2).")
    assert list(out.iterdir()) == []


def test_the_ten_lines_run_under_dkcore_run():
    run = dkcore("run", "-n", 2, EXAMPLES / "script.py", env={**os.environ, "KERAS_BACKEND": "jax"})
    assert run.returncode == 0, run.stderr
    found = re.search(r"2 ranks, test accuracy ([0-9.]+)", run.stdout)
    assert float(found[1]) > 0.7  # a linear model, one epoch, ADAG


def test_run_hands_on_arguments_and_exit_codes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys, dkcore\nprint(f'got {sys.argv[1:]}')\ndkcore.init().comm.Barrier()\nsys.exit(5)\n")
    run = dkcore("run", "-n", 2, script, "--flag", "x")
    assert run.returncode == 5
    assert run.stdout.count("got ['--flag', 'x']") == 2


def test_rules_shows_every_rule_with_formula_and_source():
    result = CliRunner().invoke(main, ["rules"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for name in REGISTRY:
        assert name in result.output
    assert "(w - p) / window" in result.output
    assert "1710.02368" in result.output


def test_doctor_finds_everything_that_tests_need():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "missing" not in result.output
    for what in ("compiled engine", "shared memory", "mpiexec", "mpi4py", "tensorflow", "jax", "torch", "C compiler"):
        assert what in result.output
    assert re.search(r"│ ok +│ TensorFlow op ", result.output), result.output


def test_doctor_says_what_mends_it(monkeypatch):
    monkeypatch.setattr("dkcore.commands.doctor.shutil.which", lambda name: None)
    monkeypatch.setattr("dkcore.commands.doctor.version", lambda name: None)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "dkcore[tensorflow]" in result.output
    assert "apt-get install gcc" in result.output


def test_clean_removes_orphans_and_spares_the_living(script):
    dying = script("center = dk.Center.create(np.zeros(9, 'f'))\nprint(center.name, flush=True)\ninput()")
    orphan = dying.line()
    with center.Center.create(np.zeros(9, np.float32)) as alive:
        dying.kill()
        result = CliRunner().invoke(main, ["clean"])
        assert orphan in result.output
        assert alive.name not in result.output
        assert "nothing to remove" in CliRunner().invoke(main, ["clean"]).output
