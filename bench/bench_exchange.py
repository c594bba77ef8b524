"""What do the locks cost, and how near is an exchange to what the machine can move?

Every built-in rule and instruction set, beyond the caches, with 1 and 2 workers: an exchange, the same loop without
locks on the same memory, and the machine's own triad, in turn.
"""

import numpy as np

from bench.case import RULES, Case
from bench.flat import bytes_per_parameter
from bench.stage import set_stage
from bench.triad import BYTES
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
        for name in RULES
        for via in (ways if size == LARGE else [None])
    ]


def keys(name: str, size: int, workers: int, via: str | None) -> list[str]:
    """exchange_vs_unlocked/RULE/PARAMETERS/WORKERSworkers, and the instruction set unless it is the best one."""
    rest = f"{name}/{size}/{workers}workers" + (f"/{via}" if via else "")
    return [f"exchange_vs_unlocked/{rest}", f"exchange_vs_triad/{rest}"]


def bench_exchange(case, kept, turns, quick):
    crew, centers = set_stage(kept, case.size, case.workers)
    crew.ask("choose", case.rule, case.via)
    names = ("exchange", "unlocked", *BYTES)

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
    turns.figure(case.keys[0], seconds["unlocked"] / seconds["exchange"])
    gigabytes = case.workers * case.size / 1e9
    moved = bytes_per_parameter(REGISTRY[case.rule])
    speed = moved * gigabytes / seconds["exchange"]
    roof = np.max([count * gigabytes / seconds[name] for name, count in BYTES.items()], axis=0)
    note = f"{np.median(speed):.1f} of {np.median(roof):.1f} GB/s, {moved} bytes a parameter"
    turns.figure(case.keys[1], speed / roof, note=note)
