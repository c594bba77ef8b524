"""What do the locks cost, and how near is an exchange to what the machine can move?

Every built-in rule and instruction set, beyond the caches, with 1 and 2 workers: an exchange, the same loop without
locks on the same memory, and the machine's own triad, in turn.
"""

import numpy as np

from bench.harness.case import RULES, Case
from bench.machine.triad import BYTES
from bench.subjects.flat import bytes_per_parameter
from bench.subjects.stage import set_stage
from dkcore.engine.compile import instruction_sets
from dkcore.rules import REGISTRY

LARGE = 67_108_864  # parameters; 256 MiB of float32
MIDDLE = 16_777_216
SOME = ("adag", "aeasgd")  # the most and the least bytes of those without a state


def cases(quick: bool) -> list[Case]:
    """All rules through the best instruction set; through the others, and with a look for NaN, when there is time."""
    if quick:
        return [*(make(name, LARGE, 2) for name in SOME), make("adagrad", LARGE, 2), make("adag", LARGE, 2, finite=True)]
    plain = [make(name, LARGE, workers) for workers in (1, 2) for name in RULES]
    middle = [make(name, MIDDLE, workers) for workers in (1, 2) for name in SOME]
    others = [make(name, LARGE, 2, via=via) for name in SOME for via in instruction_sets()[1:]]
    return middle + plain + others + [make(name, LARGE, 2, finite=True) for name in SOME]


def make(name: str, size: int, workers: int, *, via: str | None = None, finite: bool = False) -> Case:
    """exchange_vs_unlocked/RULE/PARAMETERS/WORKERSworkers, and what is special: the instruction set, the look for NaN.

    exchange_gbps of adag is that of bench_sizes.py.
    """
    special = [word for word in (via, "finite" if finite else None) if word]
    rest = "/".join([name, str(size), f"{workers}workers", *special])
    keys = f"exchange_vs_unlocked/{rest}", f"exchange_vs_triad/{rest}"
    if not special and name != "adag":
        keys = *keys, f"exchange_gbps/{rest}"
    return Case(*keys, rule=name, size=size, workers=workers, via=via, finite=finite, rounds=9)


def bench_exchange(case, kept, turns, quick):
    crew, centers = set_stage(kept, case.size, case.workers)
    crew.ask("choose", case.rule, case.via, None, case.finite)
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
    seconds = turns(sides, rounds=5 if quick else case.rounds, verify=verify)
    turns.figure(case.keys[0], seconds["unlocked"] / seconds["exchange"])
    gigabytes = case.workers * case.size / 1e9
    moved = bytes_per_parameter(REGISTRY[case.rule])
    speed = moved * gigabytes / seconds["exchange"]
    roof = np.max([count * gigabytes / seconds[name] for name, count in BYTES.items()], axis=0)
    note = f"{np.median(speed):.1f} of {np.median(roof):.1f} GB/s, {moved} bytes a parameter{turns.of_roof(np.median(speed), case.workers)}"
    turns.figure(case.keys[1], speed / roof, note=note)
    for key in case.keys[2:]:
        turns.figure(key, speed, unit="GB/s", note=f"{moved} bytes a parameter{turns.of_roof(np.median(speed), case.workers)}")
