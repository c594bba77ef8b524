"""A stage: centers of one size, and a crew of `bench.flat.Flat` that works on them."""

from contextlib import ExitStack

import numpy as np

from bench.caches import sets_beyond
from bench.crew import Crew
from dkcore.center import Center
from dkcore.rules import REGISTRY

__all__ = ["Stage"]


class Stage:
    """Set up one at a time, and kept for the next case that wants the same: it takes seconds. A context manager."""

    def __init__(self) -> None:
        self.stack, self.key = ExitStack(), None

    def set_up(self, size: int, workers: int, *, cached: bool = False) -> tuple[Crew, list[Center]]:
        """A crew and its centers of ``size`` parameters; so many that they do not fit into the caches, or one if ``cached``."""
        if self.key != (size, workers, cached):
            self.close()
            values = np.tile(np.random.default_rng(0).standard_normal(4096, np.float32), -(-size // 4096))[:size]
            states = max(len(rule.states) for rule in REGISTRY.values())
            count = 1 if cached else sets_beyond(3 * values.nbytes)
            self.centers = [self.stack.enter_context(Center.create(values, states=states)) for _ in range(count)]
            self.crew = self.stack.enter_context(Crew(workers, "bench.flat:Flat", [center.name for center in self.centers]))
            self.key = size, workers, cached
        return self.crew, self.centers

    def close(self) -> None:
        """End the crew, then let go of the centers."""
        self.key = None
        self.stack.close()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *error) -> None:
        self.close()
