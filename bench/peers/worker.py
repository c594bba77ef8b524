"""A worker of any peer: its vectors, its clock, and the proof that nothing is lost. A peer's own says how to meet the center.

One exchange is ADAG with window 12, from a worker's weights to the center and back: d = (w - p) / 12; c += d; w = p = c. A peer
defines only ``given``, which is handed the ready d: c += d; w = c. The rest is numpy that allocates nothing.
"""

import time
from collections.abc import Callable
from itertools import cycle, islice

import numpy as np

__all__ = ["WINDOW", "Worker", "shapes_of", "views"]

WINDOW = 12
# What is exchanged to prove a peer: 0, 1, ... 6 again and again, which float32 adds exactly. Written piece by piece, in a cache.
STEP = np.resize(np.arange(7, dtype=np.float32), 7 << 14)
LINE = 16  # floats in a cache line
SAMPLES = 4096  # elements that are looked at after each exchange; at the end all are
SETTLING = 10.0  # seconds that a peer without acknowledgements may take to have added everything


class Worker:
    """Worker ``index`` of a team; those beyond the number that a case asks for stand idle, and do nothing."""

    sign = 1  # -1: this peer's center subtracts what it is handed
    needs_delta = True  # in a vector of its own
    acknowledged = True  # what comes back from an exchange has in it what was sent

    def __init__(self, index: int, members: int) -> None:
        self.index, self.working = index, False
        self.memory = np.empty(0, np.float32)

    def prepare(self, size: int, workers: int, sets: int, *where) -> None:
        """Take vectors of that size, several sets to be used in rotation, and meet the center, which is zero."""
        if self.working:
            self.leave()
        self.size, self.workers, self.working = size, workers, self.index < workers
        self.sets = range(sets if self.working else 0)
        self.w = self.p = self.d = self.acts = self.turns = ()  # let go of the last ones first
        self.w, self.p, *self.d = self.vectors(3 if self.needs_delta else 2)
        self.d = self.d[0] if self.d else [np.empty(0, np.float32)] * sets
        self.join(*where)
        self.acts = {False: [self.exchange(k) for k in self.sets], True: [self.given(k) for k in self.sets]}
        self.turns = {given: cycle(acts) for given, acts in self.acts.items()}

    def vectors(self, kinds: int) -> np.ndarray:
        """Zeros of shape (kinds, sets, size), each on a cache line of its own, in memory that is kept: to get it takes long."""
        length = -(-self.size // LINE) * LINE
        shape = (kinds, len(self.sets), length)
        if self.memory.size < np.prod(shape) + LINE:
            del self.memory
            self.memory = np.empty(np.prod(shape) + LINE, np.float32)
        first = -self.memory.ctypes.data % 64 // 4
        values = self.memory[first : first + np.prod(shape)]
        values.fill(0)
        return values.reshape(shape)[..., : self.size]

    def join(self, *where) -> None:
        """Meet the center; all workers do it at once."""

    def leave(self) -> None:
        """Part from it again."""

    def given(self, place: int) -> Callable[[], None]:
        """What adds ``d`` to the center and writes the center to ``w``, both of that set."""
        raise NotImplementedError

    def exchange(self, place: int) -> Callable[[], None]:
        """One exchange of that set."""
        w, p, d, add = self.w[place], self.p[place], self.d[place], self.given(place)
        ahead, behind = (w, p) if self.sign > 0 else (p, w)

        def run() -> None:
            np.subtract(ahead, behind, out=d)
            np.divide(d, WINDOW, out=d)
            add()
            np.copyto(p, w)

        return run

    def synchronous(self, place: int) -> Callable[[], None]:
        """One exchange where all have the center, and ``given`` leaves it in ``p``, too."""
        w, p, d, add = self.w[place], self.p[place], self.d[place], self.given(place)

        def run() -> None:
            np.subtract(w, p, out=d)
            np.divide(d, WINDOW, out=d)
            add()

        return run

    def pull(self, place: int) -> None:
        """Write the center to ``w``."""
        raise NotImplementedError

    def hand(self, place: int) -> np.ndarray:
        """Where the ready delta is to be written."""
        return self.d[place]

    def run(self, count: int, given: bool) -> list[float]:
        """The seconds of each of ``count`` exchanges. The weights have not moved since the last one, which makes no difference."""
        seconds = []
        for act in islice(self.turns[given], count if self.working else 0):
            start = time.perf_counter()
            act()
            seconds.append(time.perf_counter() - start)
        self.rest()
        return seconds

    def rest(self) -> None:
        """After the exchanges of all, outside of the clock."""

    def learn(self, times: int, given: bool, total: int) -> list[float]:
        """Exchange a step of known numbers on every set, and look at what comes back; the seconds of each.

        total: what all workers together will have added at the end, in steps of the first worker.
        """
        if not self.working:
            self.rest()
            return []
        seconds, mine = [], self.index + 1
        chosen = np.unique(np.append(np.random.default_rng(self.index).integers(0, self.size, SAMPLES), [0, self.size - 1]))
        step = STEP[chosen % STEP.size]
        for place, act in [(place, self.acts[given][place]) for _ in range(times) for place in self.sets]:
            before = self.w[place][chosen]
            if given:
                for part, numbers in steps(self.hand(place)):
                    np.multiply(numbers, self.sign * mine, out=part)
            else:
                for part, numbers in steps(self.w[place]):
                    part += WINDOW * mine * numbers
            start = time.perf_counter()
            act()
            seconds.append(time.perf_counter() - start)
            after, least = self.w[place][chosen], before + mine * step if self.acknowledged else 0
            assert given or np.array_equal(after, self.p[place][chosen]), "after an exchange w is not p"
            assert np.all(after >= least) and np.all(after <= total * step), "what came back is not the center"
        self.rest()
        return seconds

    def prove(self, total: int) -> None:
        """The center is what all have added, in every element of every set. Then w = p = c and d = 0."""
        for place in self.sets:
            patience = time.monotonic() + (0 if self.acknowledged else SETTLING)
            self.pull(place)
            while not (right := is_sum(self.w[place], total)) and time.monotonic() < patience:
                time.sleep(0.05)
                self.pull(place)
            assert right, "the center is not the sum of what was exchanged"
            np.copyto(self.p[place], self.w[place])
            self.d[place].fill(0)
        self.rest()

    def close(self) -> None:
        if self.working:
            self.leave()


def steps(vector: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The vector in pieces, each with the numbers of a step."""
    pieces = [vector[begin : begin + STEP.size] for begin in range(0, vector.size, STEP.size)]
    return [(piece, STEP[: piece.size]) for piece in pieces]


def is_sum(vector: np.ndarray, total: int) -> bool:
    """Is it so many steps, in every element?"""
    return all(np.array_equal(piece, total * numbers) for piece, numbers in steps(vector))


def shapes_of(size: int) -> list[tuple[int, ...]]:
    """Weights of a perceptron, for peers that exchange lists of arrays: 4,798,010 is 784-1000-2000-1000-10, others are one layer."""
    if size == 4_798_010:
        return [(784, 1000), (1000,), (1000, 2000), (2000,), (2000, 1000), (1000,), (1000, 10), (10,)]
    inputs = max(k for k in range(1, int(size**0.5) + 1) if size % k == 0)
    return [(inputs - 1, size // inputs), (size // inputs,)] if inputs > 1 else [(size,)]


def views(vector: np.ndarray) -> list[np.ndarray]:
    """The vector as such weights, without a copy."""
    shapes = shapes_of(vector.size)
    parts = np.split(vector, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
