"""How much faster than dist-keras is an exchange?

Its own server and client from PyPI against ours, in the same processes, in turn. It is handed its delta, and does not
give the model its new weights; ours computes the delta and writes the weights. Each uses the same vectors again and
again, for its buffers cannot be rotated.
"""

from contextlib import ExitStack

import numpy as np
import pytest

from bench.case import Case
from bench.crew import Crew
from bench.dist_keras import PLACE
from dkcore.center import Center

SHAPES = {
    4_798_010: [(784, 1000), (1000,), (1000, 2000), (2000,), (2000, 1000), (1000,), (1000, 10), (10,)],
    1_000_000: [(999, 1000), (1000,)],
}
ROUNDS = {4_798_010: 11, 1_000_000: 41}
OURS = 40  # exchanges for one of theirs: it then takes about as long


def cases(quick: bool) -> list[Case]:
    """Two workers at once; one alone when there is time."""
    return [
        Case(f"vs_dist_keras/{size}/{workers}workers", size=size, workers=workers)
        for size in SHAPES
        for workers in ((2,) if quick else (1, 2))
    ]


def bench_dist_keras(case, turns, quick):
    if not (PLACE / "distkeras").is_dir():
        pytest.skip(f"dist-keras is not installed: pip install --no-deps --target {PLACE.relative_to(PLACE.parents[1])} dist-keras==0.2.1")
    with ExitStack() as stack:
        center = stack.enter_context(Center.create(np.ones(case.size, np.float32)))
        server = stack.enter_context(Crew(1, "bench.dist_keras:Server", SHAPES[case.size], cores="all"))
        port = server.ask("port")[0]
        crew = stack.enter_context(Crew(case.workers, "bench.dist_keras:Client", [center.name], SHAPES[case.size], port, cores="all"))
        crew.ask("choose", "adag", None)

        def verify() -> None:
            crew.ask("verify")
            crew.ask("verify_theirs")
            crew.seconds("theirs")

        sides = {"ours": lambda: crew.seconds("exchange", OURS), "theirs": lambda: crew.seconds("theirs")}
        seconds = turns(sides, rounds=ROUNDS[case.size] // (2 if quick else 1), verify=verify)
    note = f"ours {np.median(seconds['ours']) * 1e3:.1f} ms, theirs {np.median(seconds['theirs']) * 1e3:.0f} ms"
    turns.figure(case.keys[0], seconds["theirs"] / seconds["ours"], note=note)
