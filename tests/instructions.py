"""How many instructions an exchange takes, counted by callgrind: the same from run to run, unlike seconds.

tests/instructions.json is the budget, which test_instructions.py holds the engine to. A change that needs more, or less, says so:
``python tests/instructions.py --update`` writes the new counts, to be committed with the change.
"""

import json
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import c_engine
from c_engine import run

from dkcore.engine.roles import role_of
from dkcore.formula.rule import Rule
from dkcore.rules import REGISTRY

__all__ = ["BUDGET", "CASES", "Count", "build", "count", "environment", "margin", "missing"]

FOLDER = "ctest"
PROGRAM = c_engine.ROOT / "build" / FOLDER / "count_instructions"
BUDGET = Path(__file__).with_suffix(".json")
RULES, SIZES = ("adag", "aeasgd", "dynsgd"), (1000, 100_000)
CASES = [(rule, size, finite) for rule in RULES for size in SIZES for finite in (False, True) if rule == "adag" or not finite]
EXCHANGES = 8  # and twice as many; the difference is theirs alone
SAME, OTHER = 0.01, 0.10  # the margin with the compiler and C library of the budget, and with others
COUNTED = ("staleness", "workers")


@dataclass(frozen=True)
class Count:
    """Instructions of one exchange, and the name of the case."""

    name: str
    instructions: int


def missing() -> str | None:
    """Why instructions cannot be counted here."""
    if platform.machine() != "x86_64":
        return f"the budget is of x86_64, and this is {platform.machine()}"
    return None if shutil.which("valgrind") else "no valgrind: apt-get install valgrind"


def build() -> None:
    """The engine as it is shipped, and the program that exchanges."""
    c_engine.build(FOLDER, PROGRAM.name)


def environment() -> str:
    """What the counts depend on besides the source."""
    return run(str(PROGRAM)).strip()


def margin(made_with: str) -> float:
    """How far counts may be from a budget that was made with that compiler and C library."""
    return SAME if made_with == environment() else OTHER


def count(rule: str, size: int, finite: bool) -> Count:
    """Of one exchange of the baseline's kernel, and of the instruction set that saves what it may undo."""
    few, isa = collect(REGISTRY[rule], size, finite, EXCHANGES)
    many, _ = collect(REGISTRY[rule], size, finite, 2 * EXCHANGES)
    return Count(f"{rule}/{size}{'/finite' if finite else ''}:{isa}", (many - few) // EXCHANGES)


def collect(rule: Rule, size: int, finite: bool, exchanges: int) -> tuple[int, str]:
    """All instructions of a process that does so many exchanges, and the instruction set that it takes for the best."""
    values = rule.fill({"window": 12} if "window" in rule.scalars else {}, COUNTED)
    places = [list(values).index(name) if name in values else -1 for name in COUNTED]
    roles = "".join(f"{role_of(name, rule.states):d}" for name in rule.vectors)
    arguments = [rule.name, size, exchanges, int(finite), *places, roles, *values.values()]
    printed = run("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(PROGRAM), *map(str, arguments))
    isa = next(line for line in printed.splitlines() if not line.startswith("=="))
    return int(re.search(r"Collected : (\d+)", printed)[1]), isa


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--update"]):
        sys.exit("usage: python tests/instructions.py [--update]")
    if reason := missing():
        sys.exit(reason)
    build()
    counts = {each.name: each.instructions for each in (count(*case) for case in CASES)}
    print(json.dumps({"made_with": environment(), "instructions": counts}, indent=1))
    if sys.argv[1:]:
        BUDGET.write_text(json.dumps({"made_with": environment(), "instructions": counts}, indent=1) + "\n")
