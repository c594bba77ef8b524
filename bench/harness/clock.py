"""A clock that stands still until somebody says how many seconds have passed.

The times that matter are taken inside of worker processes. This clock brings them to pytest-benchmark, so that its
statistics are of what the workers measured, without the pipes between them and us.
"""

__all__ = ["Clock"]


class Clock:
    """Called, it says the time: a timer for pytest-benchmark."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.now += seconds
