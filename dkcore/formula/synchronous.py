"""The synchronous methods: every ``window`` steps all workers of all nodes meet, and the center takes one step for all.

A round has two formulas. In `gather` each worker hands its part in to ``m``, a state beside the center. When all have, the
parts of all nodes are added up, and `outer` moves the center ``c`` by the sum ``t``; further vectors of it are its own state.
Then each worker goes on from the new center, unless its method says that it keeps its own weights.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, overload

from dkcore.arrays import Array
from dkcore.errors import RuleError, expected
from dkcore.formula.rule import Formula, Rule, formula, rule, validate_not_counted

__all__ = ["UNDO", "Synchronous", "check_staleness", "check_undo", "hand_in_elastic", "synchronous", "undo_for"]

UNDO = ("block", "stripe", "none")


@rule
def hand_in(c: Array, w: Array, m: Array) -> tuple[Array, Array, Array]:
    """Each worker hands in its progress since the last round."""
    return c, w, m + (w - c)


@rule
def hand_in_elastic(c: Array, w: Array, m: Array, *, alpha: float) -> tuple[Array, Array, Array]:
    """Each worker hands in how far it is from the center, and gives way by alpha of that."""
    d = w - c
    return c, w - alpha * d, m + d


@dataclass(frozen=True, eq=False)
class Synchronous:
    """A synchronous method: how workers hand in, how the center moves, and whether they go on from the center (pull)."""

    gather: Rule
    outer: Rule
    pull: bool

    @property
    def name(self) -> str:
        return self.outer.name

    @property
    def doc(self) -> str:
        return self.outer.doc

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the scalars of both formulas."""
        return tuple(dict.fromkeys(self.gather.scalars + self.outer.scalars))

    @property
    def defaults(self) -> dict[str, float]:
        return self.gather.defaults | self.outer.defaults

    @property
    def states(self) -> tuple[str, ...]:
        """Vectors beside the center: what is handed in, and the state of the outer step."""
        return ("m", *(name for name in self.outer.vectors if name not in ("c", "t")))

    def fill(self, scalars: Mapping[str, float], counted: Collection[str] = ()) -> dict[str, float]:
        """As `Rule.fill`, for both formulas."""
        validate_not_counted(scalars, counted)
        if unknown := sorted(set(scalars) - set(self.scalars)):
            advice = f"Unknown: {', '.join(unknown)}."
            raise RuleError(expected(f"the scalars ({', '.join(self.scalars)}) of method {self.name!r}", f"({', '.join(scalars)})", advice))
        return self.gather.fill(self.part(self.gather, scalars), counted) | self.outer.fill(self.part(self.outer, scalars), counted)

    def part(self, of: Rule, scalars: Mapping[str, float]) -> dict[str, float]:
        """Those of the scalars that one of the two formulas names."""
        return {name: value for name, value in scalars.items() if name in of.scalars}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; `from_dict` makes the same method of it."""
        return {"gather": self.gather.to_dict(), "outer": self.outer.to_dict(), "pull": self.pull}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Synchronous":
        return cls(Rule.from_dict(data["gather"]), Rule.from_dict(data["outer"]), data["pull"])


@overload
def synchronous(function: Formula, *, gather: Rule = ..., pull: bool = ...) -> Synchronous: ...
@overload
def synchronous(function: None = ..., *, gather: Rule = ..., pull: bool = ...) -> Callable[[Formula], Synchronous]: ...
def synchronous(
    function: Formula | None = None, *, gather: Rule = hand_in, pull: bool = True
) -> Synchronous | Callable[[Formula], Synchronous]:
    """Make a synchronous method of the formula of its outer step.

    Positional names are vectors: ``c`` the center, ``t`` the sum of what all workers handed in, any others are states beside
    the center, born zero. Keyword-only names are scalars; ``workers`` is how many handed in. It returns the new center and the
    new states. gather: a rule ``(c, w, m)`` that adds to ``m``. pull: whether workers go on from the center.

    >>> @synchronous
    ... def halved(c, t, *, workers):
    ...     '''The center goes half of the way to the mean.'''
    ...     return (c + t / workers / 2,)
    >>> halved.states
    ('m',)
    """
    if function is None:
        return lambda function: synchronous(function, gather=gather, pull=pull)
    names = [name for name in function.__code__.co_varnames[: function.__code__.co_argcount] if name != "t"]
    outer = formula(*names)(function)
    if outer.vectors[:2] != ("c", "t"):
        advice = "Begin the signature with (c, t."
        raise RuleError(f"Method {outer.name!r}: " + expected("vectors c and t first", outer.vectors, advice))
    return Synchronous(gather, outer, pull)


def check_undo(undo: str | None) -> None:
    """Refuse what is no way to undo."""
    if undo is not None and undo not in UNDO:
        raise ValueError(expected(f"undo of {', '.join(UNDO)}", repr(undo), "It is what is taken back when a worker is killed."))


def undo_for(undo: str | None, rule: "Rule | Synchronous | None") -> str:
    """How a center undoes what a dead worker left half done, if that is left to the rule: sums are to hold whole hand-ins only.

    >>> undo_for(None, None), undo_for("none", None)
    ('block', 'none')
    """
    check_undo(undo)
    return undo or ("stripe" if isinstance(rule, Synchronous) else "block")


def check_staleness(bound: int | None, rule: "Rule | Synchronous | None" = None) -> None:
    """Refuse a bound on staleness that cannot be meant."""
    if bound is None:
        return
    if isinstance(bound, bool) or not isinstance(bound, Integral) or bound < 0:
        raise ValueError(expected("max_staleness of 0 or more exchanges, or None", repr(bound), "It bounds how far workers part."))
    if isinstance(rule, Synchronous):
        raise ValueError(expected(f"no max_staleness with {rule.name!r}", bound, "Its workers meet at every window."))
