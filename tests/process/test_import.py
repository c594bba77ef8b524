"""Importing dkcore: light, in any order, and with one clear sentence where the engine was never compiled."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HEAVY = {"tensorflow", "jax", "torch", "keras", "numba", "mpi4py", "matplotlib", "pyarrow", "click", "rich", "pyspark"}
LOADED = f"print(sorted({HEAVY!r} & {{name.split('.')[0] for name in sys.modules}}))"


@pytest.mark.parametrize(
    "code",
    [
        "import dkcore",
        "from dkcore import Center, rules",
        "import dkcore as dk; dk.rules.adag; dk.rule; dk.errors",
        "import dkcore.engine.codec",
        "import dkcore.settings.settings",
    ],
)
def test_nothing_heavy_is_imported(code):
    done = subprocess.run([sys.executable, "-c", f"{code}\nimport sys\n{LOADED}"], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_exchange_of_a_built_in_rule_needs_no_compiler(script):
    code = "c = dk.Center.create(np.zeros(3))\nc.exchange(dk.rules.adag, np.ones(3), np.zeros(3), window=1)\nc.close()\n"
    assert script(code + LOADED).end() == "[]\n"


def test_public_names_are_listed_and_an_unknown_one_is_refused(script):
    code = "assert set(dk.__all__) <= set(dir(dk))\ntry:\n    dk.Centre\nexcept AttributeError as error:\n    print(error)"
    assert script(code).end() == "module 'dkcore' has no attribute 'Centre'\n"


@pytest.mark.parametrize(
    "use", ["dkcore.Center.create(np.zeros(3))", "dkcore.Center.attach('x')", "dkcore.engine.compile.instruction_sets()"]
)
def test_an_uncompiled_tree_says_what_is_missing(use, tmp_path):
    compiled = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(Path(__file__).resolve().parents[2] / "dkcore", tmp_path / "dkcore", ignore=compiled)
    places = [str(tmp_path), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    code = f"import sys; sys.path[:0] = {places!r}\nimport numpy as np, dkcore, dkcore.engine.compile\nassert dkcore.rules.adag\n{use}"
    # -S: the finder of an editable install would lend it our compiled engine.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("dkcore.errors.MissingError: Expected the compiled engine, dkcore._engine. Received: ")
    assert last.endswith("Run: pip install . (or make, in a checkout).")


def test_functions_that_mention_the_package_can_be_pickled():
    import pickle

    import dkcore

    assert pickle.loads(pickle.dumps(dkcore)) is dkcore
