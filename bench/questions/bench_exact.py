"""What does it cost that an exchange is exact under kill -9, and that NaN stays out of the center?

Each alone and both together, against the same loop without locks, in turn: nothing of it, the undo of a block, the look, both, and the
undo of a whole stripe. At sizes within the second-level cache and beyond all. docs/decisions/0010-exact-exchange.md has the figures.
"""

from functools import partial
from itertools import repeat

import numpy as np

from bench.harness.case import Case
from bench.harness.crew import Crew
from bench.subjects.flat import Flat, scalars_of
from dkcore.center import Center
from dkcore.rules import REGISTRY

SIZES = (65_536, 4_798_010, 67_108_864)
SIDES = {"none": ("none", False), "look": ("none", True), "block": ("block", False), "both": ("block", True), "stripe": ("stripe", False)}
MODES = ("none", "block", "stripe")


def cases(quick: bool) -> list[Case]:
    """exact_vs_unlocked/RULE/PARAMETERS/WORKERSworkers/SIDE, all sides of a case at once."""
    rules, workers = (("adag",), (2,)) if quick else (("adag", "aeasgd", "adagrad"), (1, 2))
    sizes = SIZES[:2] if quick else SIZES
    return [make(rule, size, count) for rule in rules for size in sizes for count in workers]


def make(rule: str, size: int, workers: int) -> Case:
    keys = [f"exact_vs_unlocked/{rule}/{size}/{workers}workers/{side}" for side in SIDES]
    return Case(*keys, rule=rule, size=size, workers=workers)


def bench_exact(case, turns, quick):
    rule, values = REGISTRY[case.rule], np.zeros(case.size, np.float32)
    centers = [Center.create(values, states=len(rule.states), undo=mode) for mode in MODES]
    with Crew(case.workers, "bench.questions.bench_exact:Exact", [center.name for center in centers]) as crew:
        crew.ask("choose", case.rule, None)
        times = max(10_000_000 // case.size, 1)

        def verify() -> None:
            crew.ask("verify")
            for name in SIDES:
                crew.seconds(name)

        names = ("unlocked", *SIDES)
        sides = {name: lambda name=name: crew.seconds(name, times) for name in names}
        seconds = turns(sides, rounds=7 if quick else 15, verify=verify)
    for center in centers:
        center.close()
    for key, name in zip(case.keys, SIDES, strict=True):
        turns.figure(key, seconds["unlocked"] / seconds[name], note=f"{np.median(seconds[name]) * 1e6:,.0f} us")


class Exact(Flat):
    """One worker on a center of each mode; the sides use the same weights."""

    def choose(self, name: str, via: str | None) -> None:
        """As `Flat`, and prepare a call for each side."""
        self.w, self.p = self.w[:1] * len(MODES), self.p[:1] * len(MODES)
        super().choose(name, via)
        self.turn = repeat(0)
        self.sided = {}
        for side, (mode, look) in SIDES.items():
            slot, p = self.slots[MODES.index(mode)], self.p[0] if "p" in self.rule.vectors else None
            self.sided[side] = slot.call(self.rule, p=p, check_finite=look, **scalars_of(self.rule))
            setattr(self, side, partial(self.sided[side].flat, self.w[0]))
