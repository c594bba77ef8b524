"""Quantities as people write them: ``10ms``, ``1gbit``, ``10GB/s``, ``4.8e6``."""

import math
import re

from dkcore.errors import expected

__all__ = ["bytes_per_second", "number", "seconds"]

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "": 1.0}
PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
RATES = {f"{prefix}{unit}": factor * size for prefix, factor in PREFIXES.items()
         for unit, size in (("bit", 1 / 8), ("bit/s", 1 / 8), ("bps", 1 / 8), ("b/s", 1.0))}
PATTERN = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z/]*)", re.IGNORECASE)


def seconds(text: str | float) -> float:
    """A span of time in seconds; a plain number is seconds already. ValueError for what is none.

    >>> seconds("10ms"), seconds("2min"), seconds(0.5)
    (0.01, 120.0, 0.5)
    """
    return measure(text, SECONDS, "a time such as 10ms, 0.5s or 2min")


def bytes_per_second(text: str | float) -> float:
    """A speed in bytes a second; a plain number is that already. ``bit`` and ``bps`` are bits, ``B/s`` is bytes.

    >>> bytes_per_second("1gbit"), bytes_per_second("10GB/s"), bytes_per_second("8 kbit/s")
    (125000000.0, 10000000000.0, 1000.0)
    """
    return measure(text, RATES | {"": 1.0}, "a speed such as 1gbit, 100mbit or 10GB/s")


def number(text: str | float) -> int:
    """A whole number that may be written with an exponent.

    >>> number("4.8e6"), number("12")
    (4800000, 12)
    """
    value = measure(text, {"": 1.0}, "a whole number such as 12 or 4.8e6")
    if value != int(value):
        raise ValueError(expected("a whole number such as 12 or 4.8e6", repr(text), "Leave out the fraction."))
    return int(value)


def measure(text: str | float, units: dict[str, float], what: str) -> float:
    """Number times unit; units are read in any case."""
    found = PATTERN.fullmatch(str(text).strip())
    unit = found[2].lower() if found else None
    try:
        value = float(found[1]) * units[unit]
    except (KeyError, TypeError, ValueError):
        raise ValueError(expected(what, repr(text), f"Units are {', '.join(filter(None, units)) or 'not needed'}.")) from None
    if not math.isfinite(value):
        raise ValueError(expected(what, repr(text), "It must be finite."))
    return value
