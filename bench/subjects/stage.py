"""A stage: centers of one size, and a crew of `bench.subjects.flat.Flat` that works on them."""

from contextlib import ExitStack

import numpy as np

from bench.harness.crew import Crew
from bench.harness.kept import Kept
from bench.machine.caches import sets_beyond
from dkcore.center import Center
from dkcore.rules import REGISTRY

__all__ = ["set_stage"]


def set_stage(kept: Kept, size: int, workers: int, *, cached: bool = False, dtype: str = "float32") -> tuple[Crew, list[Center]]:
    """A crew and its centers of ``size`` parameters: as many as do not fit into the caches (but 8 at the most), or one if ``cached``."""

    def make(stack: ExitStack) -> tuple[Crew, list[Center]]:
        values = np.tile(np.random.default_rng(0).standard_normal(4096, np.dtype(dtype)), -(-size // 4096))[:size]
        states = max(len(rule.states) for rule in REGISTRY.values())
        count = 1 if cached else sets_beyond(3 * values.nbytes)
        centers = [stack.enter_context(Center.create(values, states=states)) for _ in range(count)]
        crew = stack.enter_context(Crew(workers, "bench.subjects.flat:Flat", [center.name for center in centers]))
        return crew, centers

    return kept.get((size, workers, cached, dtype), make)
