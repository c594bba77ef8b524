"""A subject of a crew: a worker that sleeps where others would compute, and exchanges for real."""

import time

import numpy as np

from dkcore.center import Center
from dkcore.rules import REGISTRY

__all__ = ["Sleeper"]

RULE = "adag"
WARM = 25  # exchanges that tell the time of one


class Sleeper:
    """Worker ``index`` on the center of that name. window, step_time, jitter: as in `dkcore.simulation.Simulation`."""

    def __init__(self, index: int, workers: int, name: str, window: int, step_time: float, jitter: float) -> None:
        self.index, self.center = index, Center.attach(name)
        self.worker = self.center.worker(index)
        self.w = np.zeros(self.center.size, self.center.dtype)
        self.p = np.zeros_like(self.w)
        self.call = self.worker.call(REGISTRY[RULE], p=self.p, window=window)
        self.random, self.shape = np.random.default_rng(index), window / jitter**2
        self.scale = window * step_time / self.shape

    def plan(self, seconds: float, pace: dict[int, float]) -> None:
        """What `work` is to do: for so many seconds, with these workers so many times slower. It pulls, so that staleness begins at 0."""
        self.seconds, self.pace = seconds, pace.get(self.index, 1.0)
        self.worker.pull_call(self.p).flat(self.w)
        self.stale: list[float] = []

    def work(self) -> None:
        """Sleep a window, exchange, and so on. It sleeps until a time, not for a time: waking up late must not add up."""
        begin = now = time.perf_counter()
        while True:
            now += self.random.standard_gamma(self.shape) * self.scale * self.pace
            time.sleep(max(now - time.perf_counter(), 0))
            self.call.flat(self.w)
            now = time.perf_counter()
            if now > begin + self.seconds:
                break
            self.stale.append(self.call.staleness)

    def exchange(self) -> None:
        """One after another, without sleep."""
        for _ in range(WARM):
            self.call.flat(self.w)

    def told(self) -> tuple[int, float]:
        """Exchanges within the time, and the sum of their staleness."""
        return len(self.stale), sum(self.stale)

    def close(self) -> None:
        """Leave the center."""
        self.worker.release()
        self.center.close()
