"""What can this machine do: its memory, its caches and its MPI? The roof that everything else is measured against.

Measured before all else. Bandwidths are those of loops in C (bench/machine/roof.c), of 1 thread to as many as there are cores. MPI's are of
two ranks that send each other 1 byte, of which half a round trip is a latency, and 4 MiB, over shared memory and over TCP on loopback.
"""

import numpy as np
import pytest

from bench.harness.case import Case
from bench.harness.crew import Crew
from bench.machine import caches, roof
from bench.machine.mpis import LINKS, MPIS, ping_pong

IN_CACHE = ("read", "update")  # that a line is read before it is written is no traffic of the first level


def cases(quick: bool) -> list[Case]:
    """The machine's sizes; each level of memory; each MPI and link."""
    sizes = [f"roof/cache_bytes/L{number}" for number in caches.levels()]
    made = [Case(*sizes, "roof/page_bytes", "roof/numa_nodes", ask="sizes")]
    for threads in roof.counts():
        for level in ["memory", *(f"L{number}" for number in reversed(caches.levels()) if number <= 3)]:
            kinds = roof.KINDS if level == "memory" else IN_CACHE
            keys = [f"roof/{kind}/{level}/{threads}threads" for kind in kinds]
            made.append(Case(*keys, ask="bandwidth", level=level, threads=threads, kinds=list(kinds), rounds=3 if quick else 9))
    for name in MPIS:
        for link in LINKS:
            keys = f"roof/mpi_latency_us/{name}/{link}", f"roof/mpi_gbps/{name}/{link}"
            made.append(Case(*keys, ask="mpi", mpi=name, link=link, rounds=3 if quick else 9))
    return made


@pytest.fixture(scope="module")
def compiler() -> str | None:
    """Why there is no library, if there is none."""
    return roof.build()


def bench_roof(case, kept, turns, compiler):
    {"sizes": sizes, "bandwidth": bandwidth, "mpi": mpi}[case.ask](case, kept, turns, compiler)


def sizes(case, _kept, turns, _compiler) -> None:
    """What the kernel says."""
    for number, size in caches.levels().items():
        turns.figure(f"roof/cache_bytes/L{number}", [size], unit="bytes", note="of data, as one core sees it")
    huge = ", ".join(f"{what} memory: {when}" for what, when in caches.huge_pages().items())
    turns.figure("roof/page_bytes", [caches.page_bytes()], unit="bytes", note=f"huge pages of {huge}" if huge else "no huge pages")
    turns.figure("roof/numa_nodes", [caches.numa_nodes()])


def bandwidth(case, kept, turns, compiler) -> None:
    """The loops in turn."""
    if compiler:
        pytest.skip(compiler)
    crew = kept.get(case.threads, lambda stack: stack.enter_context(Crew(case.threads, "bench.machine.roof:Roofed")))
    size, have = roof.elements(case.level, case.threads), crew.ask("kinds")[0]
    crew.ask("allot", size)

    def side(kind: str):
        def run() -> float:
            moved[kind] = sum(crew.ask("choose", kind))
            return crew.seconds("run")

        return run

    def verify() -> None:
        for kind in sides:
            crew.ask("verify", kind)
            sides[kind]()

    moved, sides = {}, {kind: side(kind) for kind in case.kinds if kind in have}
    seconds = turns(sides, rounds=case.rounds, verify=verify)
    keys = {kind: f"roof/{kind}/{case.level}/{case.threads}threads" for kind in case.kinds}
    for kind, taken in seconds.items():
        note = f"{roof.KINDS[kind]} bytes an element; {roof.ARRAYS} arrays of {4 * size / 1e6:.3g} MB for each thread"
        turns.figure(keys[kind], moved[kind] / 1e9 / taken, unit="GB/s", note=note)
    for kind in set(case.kinds) - set(have):
        turns.absent(keys[kind], "bench/machine/roof.c has no non-temporal stores for this processor")


def mpi(case, _kept, turns, _compiler) -> None:
    """The ranks verify what they receive."""
    reason, found = ping_pong(case.mpi, case.link, case.rounds)
    if reason:
        pytest.skip(reason)
    taken = iter(found["latency_us"])
    turns({"latency": lambda: next(taken) / 1e6}, rounds=case.rounds, verify=lambda: None)
    turns.figure(case.keys[0], found["latency_us"], unit="us", note="half a round trip of 1 byte")
    turns.figure(case.keys[1], np.array(found["gbps"]), unit="GB/s", note=f"messages of {found['bytes'] / 1e6:.3g} MB, one way at a time")
