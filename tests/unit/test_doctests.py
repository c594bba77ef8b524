"""Every example in a docstring holds. Only modules that have one are imported, since some others start a framework."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("dkcore", "spark_bridge", "bench")


def modules() -> list[str]:
    """The names of all modules with an example."""
    paths = (path.relative_to(ROOT).with_suffix("") for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths if ">>> " in (ROOT / path).with_suffix(".py").read_text()]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
