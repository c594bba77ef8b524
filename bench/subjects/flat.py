"""A subject of a crew: one worker with flat vectors. It exchanges; runs the same loop without locks; runs the triad.

Its centers are attached by name: the parent makes them. There are several sets of center, ``w`` and ``p`` where one
would fit into a cache; they are used in rotation.
"""

import ctypes
from collections.abc import Callable
from itertools import cycle

import numpy as np

from bench.machine.triad import triad, triad_in_place
from dkcore.center import Center
from dkcore.engine import emit
from dkcore.engine.compile import KERNEL, Kernel, compile_kernel
from dkcore.formula.rule import Rule
from dkcore.rules import REGISTRY

__all__ = ["Flat", "bytes_per_parameter", "scalars_of"]

SAMPLES = 4096  # elements that a verification looks at


class Flat:
    """Worker ``index`` of ``workers`` on the centers of these names."""

    def __init__(self, index: int, workers: int, names: list[str]) -> None:
        self.index, self.workers = index, workers
        self.centers = [Center.attach(name) for name in names]
        self.slots = [center.worker(index) for center in self.centers]
        self.random = np.random.default_rng(index)
        self.w = [np.empty(center.size, center.dtype) for center in self.centers]
        self.p = [np.empty(center.size, center.dtype) for center in self.centers]
        self.spare = np.zeros(self.centers[0].size, self.centers[0].dtype)
        self.sets = range(len(names))

    def choose(self, name: str, via: str | None, rival: str | None = None, finite: bool = False) -> None:
        """Take a built-in rule; ``via`` as in `dkcore.engine.compile.compile_kernel`.

        rival: ``via`` of a second kernel. finite: look for NaN and infinity, as in training.
        """
        self.rule = rule = REGISTRY[name]
        self.finite = finite
        kernel = compile_kernel(rule, self.spare.dtype, via)
        self.calls = self.prepare(rule, kernel)
        self.rivals = self.prepare(rule, compile_kernel(rule, self.spare.dtype, rival)) if rival else []
        self.loops = [self.loop(rule, kernel.address, place) for place in self.sets]
        self.turn = cycle(self.sets)  # of all sides, so that none finds in the caches what another left there

    def prepare(self, rule: Rule, kernel: Kernel) -> list:
        """An exchange for each set."""
        previous = self.p if "p" in rule.vectors else [None] * len(self.p)
        options = {"kernel": kernel, "check_finite": self.finite, **scalars_of(rule)}
        return [slot.call(rule, p=p, **options) for slot, p in zip(self.slots, previous, strict=True)]

    def loop(self, rule: Rule, address: int, place: int) -> Callable[[], None]:
        """The kernel over all of the center, the worker's own part first as in the engine, but without any lock."""
        center = self.centers[place]
        own = {"w": self.w[place].ctypes.data, "p": self.p[place].ctypes.data}
        shared = {name: center.segment.address(k) for k, name in enumerate(("c", *rule.states))}
        bases = [(own | shared)[name] for name in rule.vectors]
        values = rule.fill(scalars_of(rule), ("staleness", "workers"))
        scalars = (ctypes.c_double * max(len(values), 1))(*values.values())
        first = self.index * center.stripes // self.workers * center.stripe_length
        item = center.dtype.itemsize
        parts = [(center.size - first, vectors_at(bases, first * item)), (first, vectors_at(bases, 0))]
        kernel = KERNEL(address)

        def run() -> None:
            for count, vectors in parts:
                kernel(count, vectors, scalars)

        return run

    def exchange(self) -> None:
        """One exchange."""
        place = next(self.turn)
        self.calls[place].flat(self.w[place])

    def rival(self) -> None:
        """One exchange by the rival kernel."""
        place = next(self.turn)
        self.rivals[place].flat(self.w[place])

    def unlocked(self) -> None:
        """The same pass without locks."""
        self.loops[next(self.turn)]()

    def triad(self) -> None:
        """a = b + s * c over vectors of the center's size: the machine's own speed."""
        triad(self.spare, self.w[0], self.p[0], np.float32(0.5))

    def triad_in_place(self) -> None:
        """a = b + s * a: the same without reading what is only to be overwritten."""
        triad_in_place(self.spare, self.w[0], np.float32(0.5))

    def verify(self) -> None:
        """Exchange once on every set, by either kernel, and compare a sample with the formula in numpy, bit for bit."""
        for calls in (self.calls, self.rivals):
            for place, call in enumerate(calls):
                scatter(self.w[place], self.random)
                scatter(self.p[place], self.random)
                self.verify_one(call, place)

    def verify_one(self, call, place: int) -> None:
        center, rule = self.centers[place], self.rule
        chosen = np.unique(np.append(self.random.integers(0, center.size, SAMPLES), [0, center.size - 1]))
        shared = {name: view(center, k) for k, name in enumerate(("c", *rule.states))}
        vectors = {"w": self.w[place], "p": self.p[place]} | shared
        self.slots[place].pull_call().flat(self.spare)  # from here on all stripes are equally stale
        before = [vectors[name][chosen] for name in rule.vectors]
        call.flat(self.w[place])
        counted = {"staleness": call.staleness, "workers": self.workers}
        scalars = scalars_of(rule) | {name: value for name, value in counted.items() if name in rule.scalars}
        results = dict(zip(("c", "w", *rule.states), rule(*before, **scalars), strict=True))
        results |= {"p": results["w"]} if "p" in rule.vectors else {}
        for name, result in results.items():
            assert np.array_equal(vectors[name][chosen], result), f"{name} of {rule.name} differs from its formula"

    def close(self) -> None:
        """Leave the centers."""
        for slot, center in zip(self.slots, self.centers, strict=True):
            slot.release()
            center.close()


def scalars_of(rule: Rule) -> dict[str, float]:
    """What a rule must be told."""
    return {"window": 12} if "window" in rule.scalars else {}


def bytes_per_parameter(rule: Rule, item: int = 4) -> int:
    """What an exchange moves: it reads every vector once, and writes those that it changes."""
    return item * (len(rule.vectors) + len(emit.stores(rule)))


def vectors_at(bases: list[int], offset: int):
    """The first argument of a kernel."""
    return (ctypes.c_void_p * len(bases))(*[base + offset for base in bases])


def view(center: Center, vector: int) -> np.ndarray:
    """A vector of the center as it lies in shared memory, to look at."""
    kind = np.ctypeslib.as_ctypes_type(center.dtype)
    return np.ctypeslib.as_array((kind * center.size).from_address(center.segment.address(vector)))


def scatter(array: np.ndarray, random: np.random.Generator) -> None:
    """Fill an array with random numbers; they repeat, for speed."""
    block = random.standard_normal(min(array.size, 1 << 18), dtype=array.dtype)
    for begin in range(0, array.size, block.size):
        array[begin : begin + block.size] = block[: array.size - begin]
