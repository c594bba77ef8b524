"""One rank of the tests of synchronous methods: moves, hands in and waits, with weights of its own; tells where all came to.

``OUT METHOD ROUNDS [NAME=VALUE...] [+ METHOD ROUNDS ...]``: one line of JSON a case in ``OUT/told-RANK``. METHOD: of dkcore.rules,
or ``halved`` below. more: rounds that each rank does beyond the one before it; name: of the case; phases: trainings, each with a
finish, or, with joined=1, one after another; idle: the rank that never trains; linger: seconds that leaders are late after a
finish; alpha, lr, momentum: scalars of the method; others are settings of `Center.of`.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

import dkcore as dk
from dkcore.formula.rule import ENGINE_SCALARS

SIZE = 1000


@dk.synchronous
def halved(c, t, *, workers):
    """A method of one's own: the center goes half of the way to the mean."""
    return (c + t / workers / 2,)


def start() -> np.ndarray:
    """Where the center begins."""
    return np.cos(np.arange(SIZE))


def moved(w: np.ndarray, rank: int) -> np.ndarray:
    """What a worker does between two rounds: towards a point of its own."""
    return w + 0.125 * (np.sin(np.arange(SIZE) * (rank + 1)) - w)


def lately(function, seconds: float):
    """The function, but it returns so much later."""

    def late(*arguments):
        function(*arguments)
        time.sleep(seconds)

    return late


def run(name: str, rounds: str, *options: str) -> None:
    given = dict(option.split("=", 1) for option in options)
    case, more, phases = given.pop("name", name), int(given.pop("more", 0)), int(given.pop("phases", 1))
    joined, idle, linger = given.pop("joined", ""), int(given.pop("idle", -1)), float(given.pop("linger", 0))
    method = halved if name == "halved" else getattr(dk.rules, name)
    scalars = {scalar: float(given.pop(scalar)) for scalar in ("alpha", "lr", "momentum") if scalar in given}
    own = {scalar: value for scalar, value in method.fill(scalars, ENGINE_SCALARS).items() if scalar not in ENGINE_SCALARS}
    center = dk.Center.of(start(), world, rule=method, **given)
    seen, w = [], start()
    if center.membership.merge:
        center.membership.merge.finish = lately(center.membership.merge.finish, linger)
    for _ in range(phases if world.rank != idle else 0):
        with center.worker(world.rank) as worker:
            call, pull, w = worker.call(method.gather, **method.part(method.gather, scalars)), worker.pull_call(), w
            pull.flat(w)
            center.membership.learn(method, own)
            if joined:
                world.comm.Barrier()  # or whoever is the first would have a round of his own
            for _ in range(int(rounds) + more * world.rank):
                w = moved(w, world.rank)
                call.flat(w)
                center.membership.round(30)
                if method.pull:
                    pull.flat(w)
                seen.append(center.snapshot().tolist()) if len(seen) < 3 else None
            center.membership.leave_rounds()
        if not joined:
            center.finish()
    if joined or world.rank == idle:
        center.finish()
    told = {"center": center.snapshot().tolist(), "worker": w.tolist(), "first": seen, "nodes": world.nodes}
    merge = center.membership.merge
    told |= {"handed in": float(np.abs(center.snapshot(state=1)).max()), "merge": merge and merge.rounds.sums()}
    center.close()
    with open(out / f"told-{world.rank}", "a") as file:
        file.write(json.dumps({"name": case, **told}) + "\n")


if __name__ == "__main__":
    world, out = dk.init(), Path(sys.argv[1])
    words: list[str] = []
    for word in [*sys.argv[2:], "+"]:
        if word != "+":
            words.append(word)
        else:
            run(*words)
            words = []
