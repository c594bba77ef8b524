"""Quantities as people write them: ``10ms``, ``1gbit``, ``10GB/s``, ``4.8e6``."""

import math
import re

from dkcore.errors import expected

__all__ = ["bytes_per_second", "number", "seconds"]

NUMBER = r"([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*"
SECONDS = {"": 1.0, "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
BYTES = {"": 1.0, "B/s": 1.0, "bit": 1 / 8, "bit/s": 1 / 8, "bps": 1 / 8, "b/s": 1 / 8}


def seconds(text: str | float) -> float:
    """A span of time in seconds; a plain number is seconds already. ValueError for what is none.

    >>> seconds("10ms"), seconds("2min"), seconds(0.5)
    (0.01, 120.0, 0.5)
    """
    value, unit = read(text, f"{NUMBER}([a-z]*)", SECONDS, "a time such as 10ms, 0.5s or 2min")
    return value * SECONDS[unit]


def bytes_per_second(text: str | float) -> float:
    """A speed in bytes a second; a plain number is that already. ``bit``, ``bps`` and ``b/s`` are bits, ``B/s`` is bytes.

    >>> bytes_per_second("1gbit"), bytes_per_second("10GB/s"), bytes_per_second("8 kbit/s"), bytes_per_second(125e6)
    (125000000.0, 10000000000.0, 1000.0, 125000000.0)
    """
    units = {prefix + unit: size * factor for unit, factor in BYTES.items() for prefix, size in PREFIXES.items() if unit or not prefix}
    units |= {unit[0].upper() + unit[1:]: size for unit, size in units.items() if unit[:1] in ("k", "m", "g", "t")}
    value, unit = read(text, f"{NUMBER}([A-Za-z/]*)", units, "a speed such as 1gbit, 100mbit or 10GB/s")
    return value * units[unit]


def number(text: str | float) -> int:
    """A whole number that may be written with an exponent.

    >>> number("4.8e6"), number("12")
    (4800000, 12)
    """
    what = "a whole number such as 12 or 4.8e6"
    value, _ = read(text, f"{NUMBER}()", {"": 1.0}, what)
    if value != int(value):
        raise ValueError(expected(what, repr(text), "It must have no fraction."))
    return int(value)


def read(text: str | float, pattern: str, units: dict[str, float], what: str) -> tuple[float, str]:
    """The number and its unit."""
    found = re.fullmatch(pattern, str(text).strip())
    try:
        value = float(found[1]) if found and found[2] in units else math.nan
    except ValueError:  # two points
        value = math.nan
    if not found or not math.isfinite(value):
        raise ValueError(expected(what, repr(text), "Check the number and its unit."))
    return value, found[2]
