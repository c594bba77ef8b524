"""The roof: what this machine's memory and caches can do, by loops in C (bench/machine/roof.c) that are compiled for it.

A subject of a crew. For a level beyond the last cache the arrays are used in rotation, so that none is found in a cache.
"""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from bench.machine.caches import last_level, level

__all__ = ["KINDS", "Roofed", "build", "counts", "elements"]

# Bytes that each loop moves for an element, with the line that is read before a part of it is written: see bench/machine/triad.py.
KINDS = {"read": 4, "copy": 12, "triad": 16, "update": 12, "rotate": 24, "nt_store": 4, "nt_copy": 8, "nt_triad": 12}
SOURCE = Path(__file__).with_name("roof.c")
LIBRARY = Path(__file__).parents[2] / "build" / "roof" / "roof.so"
ALIGNED = 64
ARRAYS = 3
TRAFFIC = 48 << 20  # bytes of one measurement at the least
SCALAR = 0.5
VERIFIED = 4096 + 64  # elements; not only whole turns of an unrolled loop


def build() -> str | None:
    """Compile the loops; the reason why not, where there is no compiler."""
    compiler = os.environ.get("CC", "cc").split()
    if not shutil.which(compiler[0]):
        return f"no C compiler {compiler[0]!r}: apt-get install gcc"
    LIBRARY.parent.mkdir(parents=True, exist_ok=True)
    made = LIBRARY.with_name(f"roof-{os.getpid()}.so")
    # Without -ftree-loop-distribute-patterns' memcpy, which has non-temporal stores of its own.
    flags = ["-O3", "-march=native", "-fno-tree-loop-distribute-patterns", "-Wno-psabi", "-shared", "-fPIC"]
    subprocess.run([*compiler, *flags, str(SOURCE), "-o", str(made)], check=True)
    made.replace(LIBRARY)  # another run may be using the old one
    return None


def counts() -> list[int]:
    """1, 2, 4, ... threads, and as many as there are cores."""
    cores = len(os.sched_getaffinity(0))
    return sorted({cores, *(1 << power for power in range(cores.bit_length()) if 1 << power <= cores)})


def elements(name: str, threads: int) -> int:
    """Of each array of a thread, for all of them to fit into a level; those of "memory" fit into no cache.

    In the level they are rather small: a cache that threads, or other machines on this one, share is not all ours.
    """
    if name == "memory":
        room = 2 * last_level() // threads
    elif name == "L3":
        room = min(4 * level(2), level(3) // (2 * threads))
    else:
        room = level(int(name[1:])) // 2
    return max(room // ARRAYS // 4 // ALIGNED, 1) * ALIGNED


class Roofed:
    """One thread, a process as workers are."""

    def __init__(self, index: int, workers: int) -> None:
        self.library = ctypes.CDLL(str(LIBRARY))
        self.library.roof_run.restype = ctypes.c_float
        self.library.roof_run.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_float, ctypes.c_size_t]
        self.turn = 0

    def kinds(self) -> list[str]:
        """Those loops that this processor has."""
        return [name for index, name in enumerate(KINDS) if self.library.roof_has(index)]

    def allot(self, size: int) -> None:
        """Take arrays of so many elements."""
        self.size, self.arrays = size, [aligned(size) for _ in range(ARRAYS)]

    def choose(self, kind: str) -> float:
        """Make ``run`` run this loop often enough to be timed; the bytes that it moves."""
        moved = KINDS[kind] * self.size
        self.kind, self.repeat = kind, max(1, TRAFFIC // moved)
        return float(moved * self.repeat)

    def run(self) -> None:
        """The loop over the next arrays."""
        self.call(self.kind, self.arrays, self.turn, self.repeat)
        self.turn = (self.turn + self.repeat) % ARRAYS

    def call(self, kind: str, arrays: list[np.ndarray], first: int = 0, repeat: int = 1) -> float:
        """The sum of what was read last."""
        pointers = (ctypes.c_void_p * ARRAYS)(*[array.ctypes.data for array in arrays])
        return self.library.roof_run(list(KINDS).index(kind), arrays[0].size, pointers, first, SCALAR, repeat)

    def verify(self, kind: str) -> None:
        """One pass against numpy."""
        a, b, c = arrays = [aligned(VERIFIED) for _ in range(ARRAYS)]
        random = np.random.default_rng(0)
        for array in arrays:
            array[:] = random.integers(-8, 8, array.size)  # so that all orders of a sum give the same
        s, before = np.float32(SCALAR), a.copy()
        results = {"copy": b, "triad": b + s * c, "update": b + s * a, "store": np.full_like(a, s), "read": a.copy(), "rotate": b.copy()}
        total = self.call(kind, arrays)
        assert np.array_equal(a, results[kind.removeprefix("nt_")]), f"{kind} computes something else"
        assert kind != "rotate" or np.array_equal(c, before), "rotate computes something else"
        assert kind != "read" or total == a.sum(), "read does not read all"


def aligned(size: int) -> np.ndarray:
    """Zeros that are really there, at the start of a cache line."""
    raw = np.empty(size + ALIGNED, np.float32)
    raw[:] = 0
    first = -raw.ctypes.data % ALIGNED // raw.itemsize
    return raw[first : first + size]
