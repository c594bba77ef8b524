"""A case: one measurement, the keys of the figures that it gives, and its settings."""

from fnmatch import fnmatchcase
from types import SimpleNamespace

from dkcore.rules import REGISTRY

__all__ = ["RULES", "Case"]

RULES = [name for name, rule in REGISTRY.items() if name == rule.name]  # without aliases


class Case(SimpleNamespace):
    """``Case("exchange_us/1000", size=1000)`` has ``keys`` and ``size``.

    One that other cases are made of has their keys in ``serves``: it is wanted when they are.
    """

    def __init__(self, *keys: str, **settings) -> None:
        super().__init__(keys=keys, **settings)

    @property
    def question(self) -> str:
        """The first part of the first key."""
        return self.keys[0].split("/")[0]

    def matches(self, pattern: str) -> bool:
        """Does one of the keys contain the pattern? ``*`` stands for anything.

        >>> Case("exchange_us/1000").matches("exchange_us"), Case("numba_vs_c/adag").matches("numba*/adag")
        (True, True)
        """
        return any(fnmatchcase(key, f"*{pattern}*") for key in (*self.keys, *getattr(self, "serves", ())))
