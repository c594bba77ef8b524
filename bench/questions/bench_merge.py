"""What does the merge of nodes cost: against MPI's own Allreduce, in bytes, and in what workers get done meanwhile?

Nodes are network namespaces of this machine with memory of their own, as in the tests, under MPICH. Their cable is as fast as
the machine, whose cores then carry the bytes of both sides as well, or limited to what a cluster has.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.harness.case import Case
from bench.harness.turns import replay

TESTS = Path(__file__).parents[2] / "tests"
LEADER = Path(__file__).parents[1] / "subjects" / "leader.py"
SMALL, LARGE = 4_797_760, 67_108_864
CODECS = ("none", "bf16", "int8", "topk:0.01")
LINKS = {"1gbit": "1gbit", "unlimited": None}


def cases(quick: bool) -> list[Case]:
    """One key for each size, link, codec and number of nodes."""
    made = [Case(f"merge_vs_allreduce/{4 * SMALL}B/2nodes/1gbit", nodes=2, size=SMALL, rounds=9, rate="1gbit")]
    made += [Case(f"merge_vs_allreduce/{4 * SMALL}B/2nodes", nodes=2, size=SMALL, rounds=21, rate=None)]
    made += [Case("throughput_while_merging/2nodes", nodes=2, size=SMALL, rounds=1 if quick else 5, rate=None)]
    if quick:
        return [*made, compressed("int8", "1gbit", rounds=3), sent_by(2)]
    made += [Case(f"merge_vs_allreduce/{4 * LARGE}B/2nodes/1gbit", nodes=2, size=LARGE, rounds=3, rate="1gbit")]
    made += [Case(f"merge_vs_allreduce/{4 * LARGE}B/2nodes", nodes=2, size=LARGE, rounds=5, rate=None)]
    made += [compressed(codec, link, rounds=7) for link in LINKS for codec in CODECS]
    return [*made, *(sent_by(nodes) for nodes in (2, 3, 4))]


def compressed(codec: str, link: str, rounds: int) -> Case:
    """merge_s/CODEC/LINK."""
    return Case(f"merge_s/{codec}/{link}", nodes=2, size=SMALL, rounds=rounds, rate=LINKS[link], compression=codec)


def sent_by(nodes: int) -> Case:
    """merge_bytes_per_leader/NODESnodes."""
    return Case(f"merge_bytes_per_leader/{nodes}nodes", nodes=nodes, size=1_048_576, rounds=3, rate=None)


def ask(case: Case, question: str) -> dict:
    """What the leaders measured."""
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    from network import Network, needs

    if reason := needs():
        pytest.skip(reason)
    settings = [f"size={case.size}", f"rounds={case.rounds}", f"compression={getattr(case, 'compression', 'none')}"]
    with Network(case.nodes) as network:
        if case.rate:
            network.slow(case.rate)
        done = network.run("mpich", str(LEADER), question, *settings, ranks_per_node=1, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))  # MPI may print, too


def bench_merge(case, turns):
    if case.question == "throughput_while_merging":
        found = ask(case, "workers")
        ratios = np.array(found["merging"]) / np.array(found["alone"])
        note = f"{np.median(found['merges']) / 2:.1f} merges/s of {case.size * 4 / 1e6:.0f} MB; two nodes and their cable on the same cores"
        turns({"merging": replay(1 / np.array(found["merging"]))}, rounds=case.rounds, verify=lambda: None)
        turns.figure(case.keys[0], ratios, note=note)
        return
    found = ask(case, "allreduce")
    merge, theirs = np.array(found["merge"]), np.array(found["allreduce"])
    seconds = turns({"merge": replay(merge), "allreduce": replay(theirs)}, rounds=case.rounds, verify=lambda: None)
    note = f"{np.median(merge) * 1e3:.0f} ms, Allreduce {np.median(theirs) * 1e3:.0f} ms"
    if case.question == "merge_bytes_per_leader":
        law = 2 * (case.nodes - 1) / case.nodes
        turns.figure(case.keys[0], [found["sent"]], "of the model", f"2 (m - 1) / m is {law:.3f}")
    elif case.question == "merge_s":
        turns.figure(case.keys[0], seconds["merge"], "s", f"{found['sent']:.3f} of the model sent; {note} without compression")
    else:
        turns.figure(case.keys[0], merge / theirs, note=note)
