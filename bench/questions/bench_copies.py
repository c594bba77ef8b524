"""What does it save to exchange in place? Against the same exchange through a flat copy of the weights, there and back."""

import numpy as np

from bench.harness.case import Case
from bench.harness.crew import Crew
from bench.subjects.flat import Flat
from bench.subjects.stage import set_stage

SIZES = (100_000, 4_798_010)


def cases(quick: bool) -> list[Case]:
    """in_place_vs_copies/PARAMETERS: times slower with copies."""
    return [Case(f"in_place_vs_copies/{size}", size=size) for size in SIZES]


def bench_copies(case, kept, turns, quick):
    _, centers = set_stage(kept, case.size, 1)
    with Crew(1, "bench.questions.bench_copies:Copying", [center.name for center in centers]) as crew:
        crew.ask("choose", "adag", None)
        repeat = max(10_000_000 // case.size, 1)

        def verify() -> None:
            crew.ask("verify")
            crew.ask("verify_copied")

        sides = {name: lambda name=name: crew.seconds(name, repeat) for name in ("exchange", "copied")}
        seconds = turns(sides, rounds=7 if quick else 21, verify=verify)
    note = f"{np.median(seconds['exchange']) * 1e6:,.0f} us in place"
    turns.figure(case.keys[0], seconds["copied"] / seconds["exchange"], note=note)


class Copying(Flat):
    """Exchanges a copy of its weights, too."""

    def copied(self) -> None:
        """Copy the weights into a flat vector, exchange that, and copy it back."""
        place = next(self.turn)
        np.copyto(self.spare, self.w[place])
        self.calls[place].flat(self.spare)
        np.copyto(self.w[place], self.spare)

    def verify_copied(self) -> None:
        """The weights are then the center's."""
        self.w[0][:] = 1
        self.turn = iter((0,))
        self.copied()
        assert np.array_equal(self.w[0], self.centers[0].snapshot()), "the copied weights are not the center"
        self.choose(self.rule.name, None)
