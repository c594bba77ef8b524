"""How much may be put into shared memory without hurting others who need it."""

import os
from pathlib import Path

from dkcore.ranks.cgroups import cgroups_of, own_cgroups

__all__ = ["Room", "available"]

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
        left += left_of(group, "memory.max", "memory.current", "inactive_file")
    for group in cgroups_of("memory"):  # version 1
        left += left_of(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return min(left)


def left_of(group: Path, limit: str, used: str, idle: str) -> list[int]:
    """What a cgroup has left of its limit, if it has one. idle: the pages that it would give back at once."""
    limit_text = (group / limit).read_text().strip() if (group / limit).is_file() else "max"
    if limit_text == "max":
        return []
    kept = int((group / used).read_text()) - int(numbers(group / "memory.stat").get(idle, 0))
    return [max(int(limit_text) - kept, 0)]


def numbers(file: Path) -> dict[str, str]:
    """Name and number of each line."""
    return {line.split()[0]: line.split()[1] for line in file.read_text().splitlines() if len(line.split()) > 1}
