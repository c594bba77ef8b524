"""What do the locks cost, and how near is an exchange to what the machine can move?

Every built-in rule and instruction set, beyond the caches, with 1 and 2 workers: an exchange, the same loop without
locks on the same memory, and the machine's own triad, in turn.
"""

from contextlib import ExitStack

import numpy as np
import pytest

from bench.caches import sets_beyond
from bench.case import Case
from bench.crew import Crew
from bench.flat import bytes_per_parameter
from bench.triad import BYTES_PER_ELEMENT
from dkcore.center import Center
from dkcore.kernels import instruction_sets
from dkcore.rules import REGISTRY

LARGE = 67_108_864  # parameters; 256 MiB of float32
MIDDLE = 16_777_216


def cases(quick: bool) -> list[Case]:
    """All rules through the best instruction set; through the others too when there is time."""
    sizes = [LARGE] if quick else [MIDDLE, LARGE]
    ways = [None] if quick else [None, *instruction_sets()[1:]]
    return [
        Case(*keys(name, size, workers, via), rule=name, size=size, workers=workers, via=via)
        for size in sizes
        for workers in (1, 2)
        for name in REGISTRY
        for via in (ways if size == LARGE else [None])
    ]


def keys(name: str, size: int, workers: int, via: str | None) -> list[str]:
    """exchange_vs_unlocked/RULE/PARAMETERS/WORKERSworkers, and the instruction set unless it is the best one."""
    rest = f"{name}/{size}/{workers}workers" + (f"/{via}" if via else "")
    return [f"exchange_vs_unlocked/{rest}", f"exchange_vs_triad/{rest}"]


@pytest.fixture(scope="module")
def stages():
    """The last crew and its centers, kept for the next case of the same size: they take seconds to make."""
    with Stage() as stage:
        yield stage


class Stage:
    """Centers of one size and a crew that works on them; one at a time."""

    def __init__(self) -> None:
        self.stack, self.key = ExitStack(), None

    def set_up(self, size: int, workers: int) -> tuple[Crew, list[Center]]:
        """Those of the last call, if they fit."""
        if self.key != (size, workers):
            self.stack.close()
            values = np.tile(np.random.default_rng(0).standard_normal(4096, np.float32), -(-size // 4096))[:size]
            states = max(len(rule.states) for rule in REGISTRY.values())
            count = sets_beyond(3 * values.nbytes)
            self.centers = [self.stack.enter_context(Center.create(values, states=states)) for _ in range(count)]
            self.crew = self.stack.enter_context(Crew(workers, "bench.flat:Flat", [center.name for center in self.centers]))
            self.key = size, workers
        return self.crew, self.centers

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *error) -> None:
        self.stack.close()


def bench_exchange(case, stages, turns, quick):
    crew, centers = stages.set_up(case.size, case.workers)
    crew.ask("choose", case.rule, case.via)
    names = ("exchange", "unlocked", "triad")

    def verify() -> None:
        crew.ask("verify")  # one after another against the formula, then together: no stripe left out, none done twice
        before = [center.versions for center in centers]
        for _ in centers:
            crew.seconds("exchange")
        for center, versions in zip(centers, before, strict=True):
            assert np.all(center.versions - versions == case.workers), "a stripe missed an exchange"
        for name in names:
            crew.seconds(name)

    sides = {name: lambda name=name: crew.seconds(name) for name in names}
    seconds = turns(sides, rounds=3 if quick else 5, verify=verify)
    moved = bytes_per_parameter(REGISTRY[case.rule])
    speed = case.workers * case.size * moved / np.median(seconds["exchange"]) / 1e9
    roof = case.workers * case.size * BYTES_PER_ELEMENT / np.median(seconds["triad"]) / 1e9
    turns.figure(case.keys[0], seconds["unlocked"] / seconds["exchange"])
    turns.figure(
        case.keys[1],
        seconds["triad"] / seconds["exchange"] * moved / BYTES_PER_ELEMENT,
        note=f"{speed:.1f} of {roof:.1f} GB/s, {moved} bytes a parameter",
    )
