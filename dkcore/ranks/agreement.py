"""A step that may fail on one rank: told to all of them before anybody goes on, so that all raise or none."""

import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from dkcore import errors

if TYPE_CHECKING:
    from dkcore.ranks.world import World

__all__ = ["agree", "attempt", "raise_once"]

T = TypeVar("T")


def attempt(step: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What a step returns, or why it failed: to be told by `agree`."""
    try:
        return step(), None
    except Exception as error:
        return None, error


def agree(world: "World", failure: Exception | None) -> None:
    """Raise on every rank when a step failed on one: there its own error, elsewhere one of that class which names the rank.

    All ranks call it.
    """
    failures = world.comm.allgather(None if failure is None else (type(failure).__name__, str(failure)))
    if failure is not None:
        raise failure
    for rank, other in enumerate(failures):
        if other is not None:
            raise class_of(other[0])(f"rank {rank}: {other[1]}")


def raise_once(world: "World", failure: Exception | None) -> None:
    """Raise what failed on one rank, or alike on many, on the first of them alone, which ends the job. All ranks call it."""
    failed = world.comm.allgather(failure is not None)
    if not any(failed):
        return
    if failure is not None and world.rank == failed.index(True):
        raise failure
    world.comm.Barrier()  # until the job ends


def class_of(name: str) -> type[Exception]:
    """The class of that name, if it is one of ours or of Python's and a sentence makes one."""
    found = getattr(errors, name, None) or getattr(builtins, name, None)
    if not isinstance(found, type) or not issubclass(found, errors.DkcoreError | OSError | MemoryError | ValueError | RuntimeError):
        return errors.DkcoreError
    return errors.DkcoreError if issubclass(found, UnicodeError) else found
