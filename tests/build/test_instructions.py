"""An exchange takes as many instructions as it did: a guard against accidental slowdowns that no noise can hide."""

import json
import os

import pytest
from instructions import BUDGET, CASES, build, count, margin, missing


@pytest.fixture(scope="module")
def budget() -> dict:
    if reason := missing():
        (pytest.fail if os.environ.get("CI") == "true" and "valgrind" in reason else pytest.skip)(reason)
    build()
    return json.loads(BUDGET.read_text())


@pytest.mark.parametrize(("rule", "size", "finite"), CASES)
def test_an_exchange_keeps_to_its_budget_of_instructions(budget, rule, size, finite):
    found = count(rule, size, finite)
    wanted = budget["instructions"].get(found.name)
    if wanted is None:  # what may be undone is saved by the widest instruction set that valgrind and this processor have
        pytest.skip(f"no budget for {found.name}: python tests/instructions.py --update")
    change = found.instructions / wanted - 1
    advice = "If that is on purpose, run python tests/instructions.py --update, and commit what it writes."
    assert abs(change) <= margin(budget["made_with"]), (
        f"{found.instructions} instructions, the budget is {wanted} ({change:+.1%}). {advice}"
    )
