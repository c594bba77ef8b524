"""The tree that git tracks holds what somebody wrote, and nothing that a run left; a run in a checkout leaves what its options name."""

import fnmatch
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEBRIS = ("NOTE*", "*.log", "*.out", "*.orig", "*.rej", "*.pyc", "*.so", "*.o", "*.keras", "*.npz", "*.npy", "*.parquet", "*.whl", "core",
          "core.[0-9]*", ".dkcore-*", "dkcore-*", "__pycache__", ".*_cache", "*.egg-info", ".venv*", "status", "logs")  # fmt: skip
AT_THE_TOP = ("build", "dist", "demo", "tmp")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout: git knows what belongs to it")
    return [Path(name) for name in git(ROOT, "ls-files").splitlines()]


def test_nothing_that_a_run_leaves_is_tracked(tracked):
    found = [path for path in tracked if path.parts[0] in AT_THE_TOP or any(fnmatch.filter(path.parts, kind) for kind in DEBRIS)]
    assert found == []


def test_a_run_in_a_checkout_leaves_the_folder_of_its_results(tracked, tiny, tmp_path):
    git(ROOT, "clone", "--quiet", "--shared", str(ROOT), str(tmp_path / "checkout"))
    before = changes(tmp_path / "checkout")
    train = ["train", "--model", f"{tiny}/models.py:small", "--data", f"{tiny}/data.npz", "--loss", "sparse_categorical_crossentropy"]
    command = [sys.executable, "-P", "-m", "dkcore", *train, "--workers", "2", "--epochs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path / "checkout", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert changes(tmp_path / "checkout") - before == {"!! dkcore-out/"}


def changes(checkout: Path) -> set[str]:
    """What differs from the commit, with what git ignores."""
    return set(git(checkout, "status", "--porcelain", "--ignored").splitlines())


def test_every_target_of_make_has_a_rule(tracked):
    """``make NAME`` of a name that is declared alone says that there is nothing to be done, as if it had been."""
    printed = subprocess.run(["make", "-C", str(ROOT), "-npq"], capture_output=True, text=True, check=False).stdout
    rules = dict(re.findall(r"^([\w./-]+):(?!=)(.*(?:\n(?!\n).*)*)", printed, re.MULTILINE))
    targets = rules[".PHONY"].splitlines()[0].split()
    assert len(targets) > 10
    assert [name for name in targets if not re.match(r" \S|(.|\n)*recipe to execute", rules.get(name, ""))] == []
