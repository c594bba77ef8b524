"""When a node would like to merge: every so many exchanges, every so many seconds, or as a share of the leader's core allows."""

import time

from dkcore.merge.settings import Merging

__all__ = ["Pace"]


class Pace:
    """Of one leader, by the settings. Seconds by the clock of ``time.perf_counter``."""

    def __init__(self, settings: Merging):
        self.settings = settings
        self.next_time = 0.0  # so that merges take their share of the core
        self.noticed()

    def noticed(self) -> None:
        """A round begins."""
        self.next_start = time.perf_counter() + (self.settings.seconds or 0.0)

    def merged(self, start: float, core: float) -> None:
        """A round that began at ``start`` took that many seconds of the core."""
        self.next_time = start + core / self.settings.share

    def due(self, exchanges: int) -> bool:
        """Whether it is time for a merge of so many exchanges."""
        if not exchanges:
            return False
        if self.settings.exchanges is not None:
            return exchanges >= self.settings.exchanges
        return time.perf_counter() >= (self.next_time if self.settings.seconds is None else self.next_start)
