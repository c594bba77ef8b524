"""Does a rule of your own, compiled by numba, run as fast as one that was built in?

Every built-in rule through numba and through C, in the same engine: beyond the caches, and in the second-level cache,
where the code itself shows.
"""

from bench.harness.case import RULES, Case
from bench.subjects.stage import set_stage

SIZES = {"": 4_798_010, "/cached": 65_536}
REPEAT = {"": 4, "/cached": 50}
ROUNDS = {"": 9, "/cached": 41}


def cases(quick: bool) -> list[Case]:
    """Every rule, both sizes; beyond the caches only adag when there is no time, for all wait for the memory there."""
    made = [Case(f"numba_vs_c/{name}{place}", rule=name, place=place) for place in SIZES for name in RULES]
    return [case for case in made if case.rule == "adag" or not quick]


def bench_numba(case, kept, turns):
    crew, _ = set_stage(kept, SIZES[case.place], 1, cached=bool(case.place))
    crew.ask("choose", case.rule, None, "numba")
    sides = {name: lambda name=name: crew.seconds(name, REPEAT[case.place]) for name in ("rival", "exchange")}

    def verify() -> None:
        crew.ask("verify")

    seconds = turns(sides, rounds=ROUNDS[case.place], verify=verify)
    turns.figure(case.keys[0], seconds["exchange"] / seconds["rival"])
