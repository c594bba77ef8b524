"""A subject of a crew: a worker on one center, without pause for a given time; it notes how long each pass took."""

import time
from collections.abc import Callable

import numpy as np

from bench.subjects.flat import Flat

__all__ = ["Crowd"]


class Crowd(Flat):
    """Worker ``index`` of ``workers`` on one center, which all of them want."""

    def last(self, seconds: float) -> None:
        """What `exchanging` and `unlocking` are to do: go on for so long."""
        self.seconds, self.noted = seconds, []

    def exchanging(self) -> None:
        """Exchange."""
        self.go_on(self.exchange)

    def unlocking(self) -> None:
        """The same passes over the same memory, without locks: what the machine itself does to a latency."""
        self.go_on(self.unlocked)

    def go_on(self, act: Callable[[], None]) -> None:
        noted, now = [], time.perf_counter
        begun = now()
        until = begun + self.seconds
        while begun < until:
            act()
            ended = now()
            noted.append(ended - begun)
            begun = ended
        self.noted = noted

    def told(self) -> np.ndarray:
        """Seconds of each pass of the last time."""
        return np.array(self.noted)
