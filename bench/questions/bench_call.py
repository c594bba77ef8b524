"""What does one exchange of a small vector cost, called from Python?"""

import numpy as np
import pytest

from bench.harness.case import RULES, Case
from bench.harness.crew import Crew
from bench.subjects.small import CALLS

SIZE = 1000


def cases(quick: bool) -> list[Case]:
    """Every rule; the figure without a name is of adag, as a script calls it."""
    keys = {name: f"exchange_us/{SIZE}" + (f"/{name}" if name != "adag" else "") for name in RULES}
    return [Case(key, f"{key}/prepared", rule=name) for name, key in keys.items()]


@pytest.fixture(scope="module")
def crew():
    """One worker."""
    with Crew(1, "bench.subjects.small:Small", SIZE) as made:
        yield made


def bench_call(case, crew, turns, quick):
    crew.ask("choose", case.rule)
    sides = {name: lambda name=name: crew.seconds(name) for name in ("exchange", "prepared")}
    seconds = turns(sides, rounds=21 if quick else 41, verify=lambda: crew.ask("verify"))
    for key, name in zip(case.keys, sides, strict=True):
        turns.figure(key, np.array(seconds[name]) / CALLS * 1e6, unit="us")
