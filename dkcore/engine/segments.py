"""Segments of centers in shared memory: their names, whether there is memory for one, and those that nobody holds."""

import os
import re
from typing import Any, NoReturn

import numpy as np

from dkcore.data.shm_budget import available
from dkcore.engine.load import engine
from dkcore.errors import LayoutError, NoRoomError, expected
from dkcore.ranks.shm import PREFIX, SHARED_MEMORY

__all__ = ["Closed", "full_name", "itemsize_of", "sweep_orphans", "validate_memory"]

NOTICED = 1 << 20  # bytes; what is smaller fits everywhere


def validate_memory(needed: int) -> None:
    """NoRoomError when this machine or container could not give that many bytes: touching them would kill a process of it."""
    if needed >= NOTICED and needed > (have := available()):
        advice = "Raise the limit of the container's memory, or take a smaller model."
        raise NoRoomError(expected(f"{needed} bytes of memory for the center", f"{have} that this machine or cgroup has left", advice))


def itemsize_of(dtype: np.dtype[Any]) -> int:
    """4 or 8; LayoutError for what no center can be of."""
    if dtype not in (np.float32, np.float64):
        raise LayoutError(expected("float32 or float64", dtype, "A center is of one of them."))
    return dtype.itemsize


def full_name(name: str) -> str:
    """The name in /dev/shm; ValueError when it could not be one."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name):
        raise ValueError(expected("a name of letters, digits, '.', '_' and '-'", repr(name), "Leave it out to have one made."))
    return name if name.startswith(PREFIX) else PREFIX + name


def sweep_orphans() -> list[str]:
    """Remove dkcore's files of this user in shared memory that no process holds; the names of those removed.

    What others have put there, under whatever name, is left alone: ours is what begins with our mark.
    """
    return [name for name in os.listdir(SHARED_MEMORY) if name.startswith(PREFIX) and engine().sweep(name)]


class Closed:
    """In the place of a segment that is let go of here, though the merge of this node still uses it."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ValueError(expected("an open center", "a closed one", "Create or attach it again."))

    def close(self) -> None:
        """It is."""

    release_workers = close
