"""A subject of a crew: one worker with a small vector that lies in the caches, as Python calls it."""

import numpy as np

from bench.subjects.flat import scalars_of
from dkcore.center import Center
from dkcore.rules import REGISTRY

__all__ = ["CALLS", "Small"]

CALLS = 1000


class Small:
    """A center of ``size`` parameters, and a worker, in one process."""

    def __init__(self, index: int, workers: int, size: int) -> None:
        self.size = size
        self.random = np.random.default_rng(index)
        self.center = None

    def choose(self, name: str) -> None:
        """Take a built-in rule, and a new center."""
        self.close()
        self.rule = rule = REGISTRY[name]
        self.center = Center.create(self.random.standard_normal(self.size, np.float32), states=len(rule.states))
        self.w, self.p = (self.random.standard_normal(self.size, np.float32) for _ in "wp")
        self.vectors = (self.w, self.p) if "p" in rule.vectors else (self.w,)
        self.call = self.center.worker().call(rule, p=self.p if "p" in rule.vectors else None, **scalars_of(rule))

    def exchange(self) -> None:
        """What a script writes: ``center.exchange(rule, w, p, window=12)``, a thousand times."""
        exchange, rule, vectors, scalars = self.center.exchange, self.rule, self.vectors, scalars_of(self.rule)
        for _ in range(CALLS):
            exchange(rule, *vectors, **scalars)

    def prepared(self) -> None:
        """A prepared call, a thousand times."""
        flat, w = self.call.flat, self.w
        for _ in range(CALLS):
            flat(w)

    def verify(self) -> None:
        """One exchange either way against the formula in numpy, bit for bit."""
        scalars = scalars_of(self.rule)

        def prepared() -> float:
            self.call.flat(self.w)
            return self.call.staleness

        for run in (lambda: self.center.exchange(self.rule, *self.vectors, **scalars), prepared):
            self.w += self.random.standard_normal(self.size, np.float32)
            shared = [self.center.snapshot(state=k) for k in range(1 + len(self.rule.states))]
            before = shared[:1] + [vector.copy() for vector in self.vectors] + shared[1:]
            counted = {"staleness": run(), "workers": self.center.counts["live"]}
            known = scalars | {name: value for name, value in counted.items() if name in self.rule.scalars}
            center, worker, *_ = self.rule(*before, **known)
            assert np.array_equal(self.w, worker), f"w of {self.rule.name} differs from its formula"
            assert np.array_equal(self.center.snapshot(), center), f"c of {self.rule.name} differs from its formula"

    def close(self) -> None:
        """Remove the center."""
        if self.center is not None:
            self.center.close()
            self.center = None
