"""How large the processor's caches are, and how many buffers it takes to rotate beyond them."""

import functools
from pathlib import Path

__all__ = ["last_level", "sets_beyond"]

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
UNKNOWN = 32 << 20  # where the kernel does not say


@functools.cache
def last_level() -> int:
    """Bytes of the largest cache."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max([int(size[:-1]) * UNITS[size[-1]] for size in sizes if size[-1:] in UNITS], default=UNKNOWN)


def sets_beyond(size: int, most: int = 8) -> int:
    """How many buffers of ``size`` bytes to use in turn, so that none is still in a cache when its turn comes."""
    return max(1, min(most, -(-2 * last_level() // size)))
