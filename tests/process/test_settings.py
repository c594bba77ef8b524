"""A setting is stated once: whatever is a field of a Job is an option, a keyword, a Param and a row of the docs, with one check."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from dkcore.errors import DataError
from dkcore.settings import table as settings_table
from dkcore.settings.setting import Setting, internal, setting, settings_of
from dkcore.trainers import TRAINERS, Trainer
from dkcore.training.job import Job

PAGE = Path(__file__).parents[2] / settings_table.PAGE

# One setting more, before any front is imported; then what each front makes of it.
TRIAL = """
import dataclasses, inspect, sys
from pathlib import Path
import dkcore.settings.settings
from dkcore.arguments import count
from dkcore.settings.setting import setting

@dataclasses.dataclass(kw_only=True)
class Trial(dkcore.settings.settings.Settings):
    patience: int = setting(3, "Rounds to wait for a better loss.", check=count, unit="rounds")

dkcore.settings.settings.Settings = Trial

import keras, numpy as np
from click.testing import CliRunner
from dkcore.cli import main
from dkcore.commands.options import job_of
from dkcore.settings.table import table_of
from dkcore.trainers import ADAG, Trainer
from dkcore.training.job import Job
from spark_bridge import KerasEstimator

def refused(call):
    try:
        call()
    except ValueError as error:
        print(error)

folder = Path(sys.argv[1])
(folder / "model.py").write_text("def f():\\n    pass\\n")
np.savez(folder / "data.npz", x_train=np.zeros((9, 2)), y_train=np.zeros(9))
print(CliRunner().invoke(main, ["train", "--help"]).output)
words = ["--model", f"{folder}/model.py:f", "--data", f"{folder}/data.npz", "--patience", "4"]
options = main.commands["train"].make_context("train", words).params
options = {name: value for name, value in options.items() if name not in ("out", "quiet", "mpi", "hosts", "hostfile")}
made = job_of(str(folder / "job"), **options)
print("by the command line", made.patience, Job.load(folder / "job").patience)
refused(lambda: job_of(str(folder / "job"), **options | {"patience": 0}))

model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
print("signature", inspect.signature(ADAG).parameters["patience"])
print("by a trainer", ADAG(model, patience=np.int64(5)).job.patience, ADAG(model).job.patience)
refused(lambda: ADAG(model, patience=0))
print(Trainer.__doc__)

estimator = KerasEstimator(model, patience=6)
print("Param", estimator.getParam("patience").doc, estimator.getOrDefault("patience"))
print("by an estimator", estimator.trainer_for(model).job.patience, KerasEstimator(patience=np.int64(7)).arguments()["patience"])
refused(lambda: KerasEstimator(patience=0))
print(table_of(Trial))
"""


def test_a_setting_that_is_stated_once_is_in_every_front(tmp_path):
    done = subprocess.run([sys.executable, "-c", TRIAL, tmp_path], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "--patience INTEGER Rounds to wait for a better loss. [default: 3]" in said
    assert "by the command line 4 4" in said
    assert "signature patience: int = 3" in said
    assert "by a trainer 5 3" in said
    assert "patience: Rounds to wait for a better loss." in said
    assert "Param Rounds to wait for a better loss. 6" in said
    assert "by an estimator 6 7" in said
    assert said.count("Expected patience of 1 or more. Received: 0.") == 3  # one check for all
    row = "| `patience` | `patience=` | `--patience` | `patience` | 3 rounds | Rounds to wait for a better loss. |"
    assert row in done.stdout.splitlines()


@pytest.mark.parametrize("field", dataclasses.fields(Job), ids=lambda field: field.name)
def test_every_field_says_what_it_is_and_checks_its_values(field):
    stated = field.metadata["setting"]
    assert isinstance(stated, Setting) and stated.help.endswith(".")
    with pytest.raises((TypeError, ValueError)):
        stated.check(field.name, object())


@pytest.mark.parametrize("each", settings_of(Job), ids=lambda each: each.name)
def test_a_default_passes_its_own_check(each):
    assert each.checked(each.default) == each.default


def test_the_page_has_the_table_that_the_code_has():
    page = PAGE.read_text()
    assert settings_table.with_table(page) == page, "Run: python -m dkcore.settings"
    with pytest.raises(DataError, match="a page with <!-- table of settings"):
        settings_table.with_table("# Settings\n")


def test_the_command_writes_the_table(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{settings_table.BEGIN}\nan old table\n{settings_table.END}\nafter\n")
    subprocess.run([sys.executable, "-m", "dkcore.settings", page], check=True)
    assert page.read_text() == f"before\n{settings_table.BEGIN}\n{settings_table.table_of()}{settings_table.END}\nafter\n"
    missing = subprocess.run([sys.executable, "-m", "dkcore.settings", tmp_path / "none.md"], capture_output=True, text=True, check=False)
    assert missing.returncode == 1 and "Expected a page with the table of settings" in missing.stderr


@pytest.mark.parametrize("name", TRAINERS)
def test_arguments_that_a_trainer_spells_out_have_the_stated_defaults(name):
    given = inspect.signature(Trainer).parameters
    constructor = {each.keyword.name: each.keyword.default for each in settings_of(Job) if each.keyword and not each.keyword.train}
    assert {name: given[name].default for name in constructor} == constructor
    called = {each.keyword.name: each.keyword.default for each in settings_of(Job) if each.keyword and each.keyword.train}
    given = inspect.signature(TRAINERS[name].train).parameters
    assert {name: given[name].default for name in called if name in given} == {name: called[name] for name in called if name in given}


def test_a_setting_without_a_front_is_in_none():
    @dataclasses.dataclass(kw_only=True)
    class Quiet(Job):
        hidden: int = internal(0, "Of no use.", check=lambda name, value: int(value))
        words: list = setting(["a"], "Several words.", check=lambda name, value: list(value), option=None, param=None)

    *_, hidden, words = settings_of(Quiet)
    assert (hidden.option, hidden.keyword, hidden.param) == (None, None, None)
    assert "hidden" not in settings_table.table_of(Quiet)
    assert (words.keyword.name, words.default, Quiet().words) == ("words", ["a"], ["a"])
    assert Quiet().words is not Quiet().words


@pytest.mark.parametrize("module", ["dkcore.cli", "dkcore.commands.simulate"])
def test_the_command_line_is_there_before_anything_heavy_is(module):
    """Help comes at once: settings, numpy and rich are imported by the command that needs them."""
    code = f"import sys, {module}; print(sorted({{'numpy', 'rich', 'dkcore.settings.settings', 'dataclasses'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
