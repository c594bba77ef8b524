"""How long should a stripe be? Short ones cost locks, long ones make workers wait for each other.

Two workers on centers that differ in nothing but their stripes, in turn.
"""

from contextlib import ExitStack
from inspect import signature

import numpy as np

from bench.harness.case import Case
from bench.harness.crew import Crew
from bench.subjects.flat import Flat
from dkcore.center import Center

SIZE, WORKERS = 4_798_010, 2
DEFAULT = signature(Center.create).parameters["stripe_bytes"].default
LENGTHS = (8_192, 32_768, DEFAULT, 524_288, 4_194_304)  # bytes


def cases(quick: bool) -> list[Case]:
    """One, for they are compared with each other."""
    return [Case(*(f"stripe_vs_default/{length}B" for length in LENGTHS if length != DEFAULT))]


def bench_stripes(case, turns, quick):
    values = np.zeros(SIZE, np.float32)
    with ExitStack() as stack:
        centers = [stack.enter_context(Center.create(values, stripe_bytes=length)) for length in LENGTHS]
        crew = stack.enter_context(Crew(WORKERS, "bench.questions.bench_stripes:Striped", [center.name for center in centers]))
        crew.ask("choose", "adag", None)

        def run(place: int) -> float:
            crew.ask("take", place)
            return crew.seconds("exchange", 4)

        sides = {str(length): lambda place=place: run(place) for place, length in enumerate(LENGTHS)}
        seconds = turns(sides, rounds=7 if quick else 21, verify=lambda: crew.ask("verify"))
    for key, length in zip(case.keys, [length for length in LENGTHS if length != DEFAULT], strict=True):
        note = f"speed of {len(values) * 4 / length:,.0f} stripes over that of {DEFAULT} bytes each, {WORKERS} workers"
        turns.figure(key, seconds[str(DEFAULT)] / seconds[str(length)], note=note)


class Striped(Flat):
    """Stays on the center that it is told."""

    def take(self, place: int) -> None:
        """Of the centers the one at ``place``."""
        self.turn = iter(lambda: place, None)
