"""The role of a vector: what the engine gives a kernel in the place of a name of its formula."""

from collections.abc import Sequence

from dkcore.engine.load import engine
from dkcore.errors import RuleError, expected

__all__ = ["role_at", "role_of"]


def role_of(name: str, states: Sequence[str]) -> int:
    """The role of a vector by its name: the center, the worker, the previous, or one of the states. RuleError for any other.

    >>> int(role_of("c", ())), int(role_of("p", ())), int(role_of("v", ("m", "v")))
    (0, 2, 4)
    """
    role = engine().Role
    known: dict[str, int] = {"c": role.CENTER, "w": role.WORKER, "p": role.PREVIOUS}
    known |= {state: role.STATE + k for k, state in enumerate(states)}
    if name not in known:
        raise RuleError(expected(f"a vector of {', '.join(known)}", repr(name), "No other has a role in the engine."))
    return known[name]


def role_at(vector: int) -> int:
    """The role of a vector of the center by its number, as `Center.snapshot` counts them: 0 the center itself, k its k-th state."""
    role = engine().Role
    return role.STATE + vector - 1 if vector else role.CENTER
