"""What a simulation computes: the real rules on flat vectors, one center a node, and the merge between them."""

import ctypes
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from dkcore.engine.codec import Codec
from dkcore.engine.compile import compile_kernel
from dkcore.formula.rule import ENGINE_SCALARS, Rule
from dkcore.simulation.settings import Settings

__all__ = ["Problem", "Training"]

CURVE = 20  # evaluations on the way

Gradient = Callable[[np.ndarray], np.ndarray]
Step = Callable[[np.ndarray, Gradient], None]


class Problem(Protocol):
    """Something to train on: `dkcore.simulation.problems` has digits and a quadratic."""

    size: int

    def start(self) -> np.ndarray:
        """The weights that all begin with; shape (size,), float32 or float64."""

    def gradient(self, worker: int) -> Gradient:
        """The gradient on the next batch of a worker, as a function of weights; it may be called at several weights."""

    def evaluate(self, weights: np.ndarray) -> dict[str, float]:
        """loss and, where there is one, accuracy."""


class Training:
    """The vectors of a simulated job, and their arithmetic: steps of workers, exchanges by the rule's own kernel, merges.

    problem: what is learned. step: makes a worker's optimizer for weights like the given, such as `dkcore.simulation.optimizers.Adam`.
    total: about how many exchanges will be made; on the way the center is evaluated 20 times.
    """

    def __init__(self, plan: Settings, problem: Problem, step: Callable[[np.ndarray], Step], total: int):
        rule = plan.method
        assert isinstance(rule, Rule)  # only asynchronous methods are trained with
        self.plan, self.problem, self.rule = plan, problem, rule
        start = problem.start()
        self.kernel = compile_kernel(rule, start.dtype)  # kept: it owns the code
        self.call = self.kernel.native
        self.centers = [start.copy() for _ in range(plan.nodes)]
        self.states = [[np.zeros_like(start) for _ in rule.states] for _ in range(plan.nodes)]
        self.workers = [start.copy() for _ in range(plan.workers)]
        self.previous = [start.copy() if "p" in rule.vectors else None for _ in range(plan.workers)]
        self.steps = [step(start) for _ in range(plan.workers)]
        self.agreed, self.taken, self.sum = start.copy(), [np.empty_like(start) for _ in range(plan.nodes)], np.empty_like(start)
        self.codec = None if plan.merge_compression == "none" else Codec.of(plan.merge_compression)
        self.held = np.zeros_like(start)  # of the sum, by who sends it on
        self.message = np.empty(self.codec.bytes(start.size, start.dtype) if self.codec else 0, np.uint8)
        counted = [name for name in ENGINE_SCALARS if name in rule.scalars]
        self.scalars = (ctypes.c_double * max(len(rule.scalars), 1))(*rule.fill(plan.scalars, counted).values())
        self.at = {name: rule.scalars.index(name) for name in counted}
        self.curve: list[dict[str, float]] = []
        self.exchanges, self.every = 0, -(-total // CURVE)
        self.pointers = [self.vectors_of(worker) for worker in range(plan.workers)]

    def vectors_of(self, worker: int) -> Any:
        """What the kernel takes: the addresses of c, w, p and states, in the rule's order."""
        node, rule = self.plan.node_of(worker), self.rule
        arrays = {"c": self.centers[node], "w": self.workers[worker]}
        if (previous := self.previous[worker]) is not None:
            arrays["p"] = previous
        arrays |= dict(zip(rule.states, self.states[node], strict=True))
        return (ctypes.c_void_p * len(rule.vectors))(*[arrays[name].ctypes.data for name in rule.vectors])

    def exchange(self, worker: int, node: int, staleness: int, live: int, now: float) -> None:
        """The steps of a window that a worker took meanwhile, and its exchange."""
        weights, step = self.workers[worker], self.steps[worker]
        for _ in range(self.plan.window):
            step(weights, self.problem.gradient(worker))
        for name, value in (("window", self.plan.window), ("staleness", staleness), ("workers", live)):
            if name in self.at:
                self.scalars[self.at[name]] = value
        self.call(weights.size, self.pointers[worker], self.scalars)
        self.exchanges += 1
        if self.exchanges % self.every == 0:
            self.curve.append({"time": now, "exchanges": self.exchanges} | self.problem.evaluate(self.centers[node]))

    def take(self, last: bool) -> None:
        """q of each node: d = c - s, compressed except in the last round. What that holds back stays in c - s."""
        codec = None if last else self.codec
        self.exact = codec is None
        for center, taken in zip(self.centers, self.taken, strict=True):
            np.subtract(center, self.agreed, out=taken)
            if codec is not None:
                codec.encode(taken, self.message)

    def land(self) -> None:
        """D = sum of q, compressed again;  c += D - q;  s += D, where D is scaled by ``merge_scale``."""
        self.sum[:] = self.taken[0]
        for taken in self.taken[1:]:
            self.sum += taken
        self.sum *= self.sum.dtype.type(self.plan.scale_of_merge)
        if self.exact or self.codec is None:
            self.sum += self.held
            self.held[:] = 0
        else:
            self.codec.encode(self.sum, self.message, self.held)
        self.agreed += self.sum
        for center, taken in zip(self.centers, self.taken, strict=True):
            center += self.sum - taken

    def evaluate(self) -> dict[str, float]:
        """loss and accuracy of the first node's center."""
        return self.problem.evaluate(self.centers[0])
