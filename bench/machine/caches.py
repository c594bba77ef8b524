"""How large the processor's caches are, and how many buffers it takes to rotate beyond them; what the kernel says of memory."""

import functools
import mmap
import re
from pathlib import Path

__all__ = ["MOST_SETS", "huge_pages", "last_level", "level", "levels", "numa_nodes", "page_bytes", "sets_beyond"]

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
MOST_SETS = 8
UNKNOWN = {1: 32 << 10, 2: 1 << 20, 3: 32 << 20}  # where the kernel does not say
CACHES, NODES = Path("/sys/devices/system/cpu/cpu0/cache"), Path("/sys/devices/system/node")
HUGE = Path("/sys/kernel/mm/transparent_hugepage")


@functools.cache
def levels() -> dict[int, int]:
    """Bytes of each level that holds data; one core's, or what it shares with others."""
    found = {}
    for path in CACHES.glob("index*"):
        size, kind = ((path / name).read_text().strip() for name in ("size", "type"))
        if kind != "Instruction" and size[-1:] in UNITS:
            found[int((path / "level").read_text())] = int(size[:-1]) * UNITS[size[-1]]
    return dict(sorted(found.items()))


def level(number: int) -> int:
    """Bytes of a level; a guess where the kernel does not say."""
    return levels().get(number, UNKNOWN[number])


def last_level() -> int:
    """Bytes of the largest cache."""
    return max(levels().values(), default=UNKNOWN[3])


def sets_beyond(size: int, most: int = MOST_SETS) -> int:
    """How many buffers of ``size`` bytes to use in turn, so that none is still in a cache when its turn comes."""
    return max(1, min(most, -(-2 * last_level() // size)))


def page_bytes() -> int:
    """Bytes of an ordinary page."""
    return mmap.PAGESIZE


def huge_pages() -> dict[str, str]:
    """When the kernel gives out huge pages, for a process' own memory and for shared memory."""
    files = {"own": HUGE / "enabled", "shared": HUGE / "shmem_enabled"}
    return {name: chosen(path.read_text()) for name, path in files.items() if path.exists()}


def chosen(line: str) -> str:
    """The word in brackets.

    >>> chosen("always [madvise] never")
    'madvise'
    """
    return re.search(r"\[(\w+)\]", line)[1]


def numa_nodes() -> int:
    """Memory nodes of this machine."""
    return max(1, len(list(NODES.glob("node[0-9]*"))))
