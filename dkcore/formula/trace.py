"""The trace of a formula: what it leaves when it is called on symbols instead of arrays."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from dkcore.errors import RuleError, expected

__all__ = ["Node", "Symbol", "Trace"]

ARITHMETIC = {"add", "subtract", "multiply", "divide", "negative"}
COMPARISON = {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"}
LOGIC = {"bitwise_and", "bitwise_or", "invert"}
FUNCTIONS = {"sqrt", "absolute", "square", "rint"}


@dataclass(frozen=True)
class Node:
    """One step of a trace: an operation on earlier nodes (by index), or a leaf (by name or value)."""

    op: str
    args: tuple[Any, ...]
    kind: str  # vector, mask, scalar or flag


@dataclass
class Trace:
    """The nodes of one formula, each distinct operation once."""

    rule: str
    nodes: list[Node] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)  # by repr: 0.0 and -0.0 are equal, and two constants

    def add(self, op: str, args: tuple[Any, ...], kind: str) -> "Symbol":
        node = Node(op, args, kind)
        if repr(node) not in self.seen:
            self.seen[repr(node)] = len(self.nodes)
            self.nodes.append(node)
        return Symbol(self, self.seen[repr(node)], kind)

    def lift(self, value: Any) -> "Symbol":
        if isinstance(value, Symbol):
            return value
        if type(value) in (int, float) and np.isfinite(value):  # not bool, and not np.float64, which is a float but not a weak one
            return self.add("constant", (float(value),), "scalar")
        self.refuse("a symbol or a finite Python number", f"{type(value).__name__} {value!r}", "Convert constants with float(...).")

    def refuse(self, what: str, received: object, advice: str) -> NoReturn:
        raise RuleError(f"Rule {self.rule!r}: " + expected(what, received, advice))


class Symbol(NDArrayOperatorsMixin):
    """Stands for a vector or a scalar while a formula is traced."""

    __hash__ = object.__hash__

    def __init__(self, trace: Trace, index: int, kind: str):
        self.trace, self.index, self.kind = trace, index, kind

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> "Symbol":
        trace, name = self.trace, ufunc.__name__
        known = ARITHMETIC | COMPARISON | LOGIC | FUNCTIONS
        if "out" in options:
            trace.refuse("new vectors", "a change in place (+=, -=, *=, /=)", "It would change the caller's arrays: write c = c + ...")
        if method != "__call__" or options or name not in known:
            trace.refuse(f"one of {', '.join(sorted(known))}, or np.where", f"np.{name}", "Write it with these; clip with np.where.")
        args = [trace.lift(value) for value in inputs]
        return trace.add(name, tuple(arg.index for arg in args), kind_of(trace, name, [arg.kind for arg in args]))

    def __array_function__(
        self, function: Callable[..., Any], types: Collection[type], args: Sequence[Any], options: Mapping[str, Any]
    ) -> "Symbol":
        if function is not np.where or len(args) != 3 or options:
            self.trace.refuse("np.where(mask, a, b)", f"np.{function.__name__}", "A rule works element by element.")
        mask, a, b = (self.trace.lift(arg) for arg in args)
        if mask.kind not in ("mask", "flag"):
            self.trace.refuse("a comparison as the first argument of np.where", mask.kind, "Write np.where(c > w, ...).")
        if {a.kind, b.kind} - {"vector", "scalar"} or "vector" not in (a.kind, b.kind):
            self.trace.refuse(
                "np.where to choose between vectors, or a vector and a scalar",
                f"{a.kind} and {b.kind}",
                "numpy makes a choice of two scalars float64. Multiply one of them with a vector first.",
            )
        return self.trace.add("where", (mask.index, a.index, b.index), "vector")

    def __pow__(self, exponent: object) -> "Symbol":
        if type(exponent) not in (int, float) or exponent != 2 or self.kind != "vector":
            self.trace.refuse(
                "a power of 2, of a vector",
                f"{self.kind} ** {exponent!r}",
                "Multiply for other powers; use np.sqrt for roots; pass powers of scalars as scalars of their own.",
            )
        return self.trace.add("square", (self.index,), "vector")

    def __rpow__(self, base: object) -> NoReturn:
        self.trace.refuse("a power of 2, of a vector", f"{base!r} ** {self.kind}", "No kernel has exponentials.")

    def __bool__(self) -> NoReturn:
        self.trace.refuse(
            "a formula without branches",
            f"a branch (if, and, or, max, min) on a {self.kind}",
            "Both sides must be computed: write np.where(mask, a, b), and & or | between masks.",
        )

    def __float__(self) -> NoReturn:
        self.trace.refuse("numpy functions", f"a plain number made of a {self.kind}", "Use np.sqrt, not math.sqrt.")

    __int__ = __index__ = __float__

    def __getitem__(self, index: object = None) -> NoReturn:
        self.trace.refuse("a formula for one element", f"a part of a {self.kind}, or its length", "A rule works element by element.")

    __len__ = __iter__ = __getitem__


def kind_of(trace: Trace, op: str, kinds: list[str]) -> str:
    """The kind of an operation's result, or a refusal."""
    inside = "vector" in kinds or "mask" in kinds
    wanted = {"mask", "flag"} if op in LOGIC else {"vector", "scalar"}
    if set(kinds) - wanted:
        trace.refuse(f"{' or '.join(sorted(wanted))} in {op}", " and ".join(kinds), "Masks go to np.where, &, | and ~ only.")
    if op in LOGIC or op in COMPARISON:
        if op in LOGIC and not inside:
            trace.refuse(f"a mask in {op}", "comparisons of scalars alone", "Python would not treat ~True as numpy does.")
        return "mask" if inside else "flag"
    if op in FUNCTIONS and not inside:
        trace.refuse(f"np.{op} of a vector", "a scalar", "numpy would make it float64; pass it as a scalar of its own.")
    return "vector" if inside else "scalar"
