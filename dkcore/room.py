"""How much may be put into shared memory without hurting others who need it."""

import os
from pathlib import Path

from dkcore.cores import own_cgroups

__all__ = ["Room"]

MEMORY = Path("/proc/meminfo")


class Room:
    """Half of what is free in shared memory now, and of the memory that it is made of: the rest is for centers, MPI and models.

    It looks anew each time, so that several who begin at once leave that half together.
    """

    def __init__(self, shared: Path):
        self.shared = shared
        self.kept = free(shared) / 2

    def has(self, size: int) -> bool:
        """Whether that many bytes more leave enough."""
        return free(self.shared) - size >= self.kept


def free(shared: Path) -> int:
    """Bytes that could still be put there; 0 where there is no such directory, or nobody may write."""
    if not os.access(shared, os.W_OK):
        return 0
    state = os.statvfs(shared)
    return min(state.f_bavail * state.f_frsize, available())


def available() -> int:
    """Bytes of memory that this machine, or the container, could still give."""
    left = [1024 * int(numbers(MEMORY)["MemAvailable:"])]
    for group in own_cgroups():
        if (group / "memory.max").is_file() and (limit := (group / "memory.max").read_text().strip()) != "max":
            used = int((group / "memory.current").read_text()) - int(numbers(group / "memory.stat")["inactive_file"])
            left.append(max(int(limit) - used, 0))
    return min(left)


def numbers(file: Path) -> dict[str, str]:
    """Name and number of each line."""
    return {line.split()[0]: line.split()[1] for line in file.read_text().splitlines()}
