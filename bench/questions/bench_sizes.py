"""How fast is an exchange, from a thousand parameters to 67 millions, and each rule's kernel in each dtype and instruction set?

Bytes are those that the rule reads and writes. Beyond the caches buffers are used in rotation; the kernels are compared at a size
that stays in the second-level cache, where the code itself shows and not the memory.
"""

import numpy as np

from bench.harness.case import RULES, Case
from bench.subjects.flat import bytes_per_parameter
from bench.subjects.stage import set_stage
from dkcore.engine.compile import instruction_sets
from dkcore.rules import REGISTRY

SIZES = (1_000, 10_000, 100_000, 1_000_000, 4_798_010, 16_777_216, 67_108_864)
CACHED = 262_144  # bytes of a vector
DTYPES = ("float32", "float64")
ELEMENTS = 40_000_000  # that a round passes over, so that none is too short to be timed


def cases(quick: bool) -> list[Case]:
    """exchange_gbps/adag/PARAMETERS/WORKERSworkers; kernel_gbps/RULE/DTYPE/INSTRUCTIONSET."""
    sizes = (SIZES[0], SIZES[2], SIZES[4]) if quick else SIZES
    plain = {"rule": "adag", "dtype": "float32", "via": None, "cached": False}
    made = [
        Case(f"exchange_gbps/adag/{size}/{workers}workers", size=size, workers=workers, **plain) for workers in (1, 2) for size in sizes
    ]
    names = ("adag", "dc_asgd") if quick else RULES
    made += [
        Case(
            f"kernel_gbps/{name}/{dtype}/{via}",
            rule=name,
            size=CACHED // np.dtype(dtype).itemsize,
            workers=1,
            dtype=dtype,
            via=via,
            cached=True,
        )
        for dtype in DTYPES
        for name in names
        for via in instruction_sets()
    ]
    return made


def bench_sizes(case, kept, turns, quick):
    crew, _ = set_stage(kept, case.size, case.workers, cached=case.cached, dtype=case.dtype)
    crew.ask("choose", case.rule, case.via)
    repeat = max(ELEMENTS // (8 if quick or case.cached else 1) // case.size, 1)
    sides = {"exchange": lambda: crew.seconds("exchange", repeat)}

    def verify() -> None:
        crew.ask("verify")
        crew.seconds("exchange")

    seconds = turns(sides, rounds=5 if quick or case.cached else 9, verify=verify)
    moved = bytes_per_parameter(REGISTRY[case.rule], np.dtype(case.dtype).itemsize)
    speed = moved * case.size * case.workers / seconds["exchange"] / 1e9
    share = turns.of_roof(np.median(speed), case.workers, "L2" if case.cached else "memory")
    note = f"{moved} bytes a parameter, {np.median(seconds['exchange']) * 1e6:,.1f} us{share}"
    turns.figure(case.keys[0], speed, "GB/s", note=note)
