"""What does it cost to make a message between nodes smaller, and how much smaller does it get?

Each codec on a model of 4.8 million float32, encoding and adding up what was encoded, in turn with the machine's memcpy.
"""

import numpy as np
import pytest

from bench.harness.case import Case
from bench.harness.crew import Crew

SIZE = 4_798_010
CODECS = ("none", "bf16", "fp16", "int8", "topk:0.01")

# Bytes a number, without the message: what is changed in place is read and written. Before the message is written its memory
# is read, and so is the target of memcpy: see bench/machine/triad.py. topk goes over the numbers four times or more; this counts one.
PASSES = {"encode": 16, "encode_only": 8, "decode_add": 8}
MEMCPY = 12


def cases(quick: bool) -> list[Case]:
    """Every codec and pass: how fast, and how much of the memory's speed that is. The size of a message belongs to the first pass."""
    made = []
    for name in CODECS:
        for work in PASSES:
            keys = [f"codec_gbps/{name}/{work}", f"codec_vs_memcpy/{name}/{work}"]
            made.append(Case(*keys, *([f"merge_bytes_ratio/{name}"] if work == "encode" else []), codec=name, work=work))
    return made


@pytest.fixture(scope="module")
def crew():
    """One leader."""
    with Crew(1, "bench.subjects.coded:Coded", SIZE) as made:
        yield made


def bench_codec(case, crew, turns, quick):
    [ratio] = crew.ask("choose", case.codec)
    sides = {name: lambda name=name: crew.seconds(name) for name in (case.work, "memcpy")}
    seconds = turns(sides, rounds=9 if quick else 21, verify=lambda: crew.ask("verify"))
    turns.figure(case.keys[0], 4 * SIZE / 1e9 / seconds[case.work], unit="GB/s", note="of the numbers")
    moved = PASSES[case.work] + 4 * ratio * (1 if case.work == "decode_add" else 2)
    speed, roof = (count * SIZE / 1e9 / seconds[name] for name, count in ((case.work, moved), ("memcpy", MEMCPY)))
    note = f"{np.median(speed):.1f} of {np.median(roof):.1f} GB/s, {moved:.2f} bytes a number{turns.of_roof(np.median(speed), 1)}"
    turns.figure(case.keys[1], speed / roof, note=note)
    if len(case.keys) == 3:
        turns.figure(case.keys[2], [ratio], note="bytes of a message over those of the numbers")
