"""A rule: one formula, traced once, from which every kernel is printed.

Design:

A. A formula is an ordinary function of ``c, w, p`` and keyword-only scalars. Called on numpy arrays it *is* the
   reference. Called on `Symbol` objects it leaves a trace: a list of nodes, each an operation on earlier nodes.
B. `Symbol` takes part in numpy's own dispatch (``__array_ufunc__``, ``__array_function__``), so a formula is written
   with ``np.where`` and ``np.sqrt`` and needs nothing of ours.
C. Every node has a kind. *vector* and *mask* live inside the loop, in the dtype of the center. *scalar* and *flag* live
   outside of it, in double, and are cast once where a vector meets them. That is what numpy does with Python floats
   (NEP 50), and so C, numba and numpy round alike, bit for bit.
D. What cannot be traced faithfully is refused here, at definition, with a message that shows the way: a branch (it
   would freeze one side), powers other than squares (libm's pow differs between machines), functions of scalars alone
   (numpy makes them float64, and a float32 formula would silently widen), numpy scalars as constants (the same).
E. A trace is plain data. A rule born in a notebook travels to its ranks as JSON, not as source and not as a pickle.
"""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from dkcore.errors import RuleError, expected

__all__ = ["ENGINE_SCALARS", "Node", "Rule", "formula", "rule"]

ENGINE_SCALARS = ("window", "staleness", "workers")

ARITHMETIC = {"add", "subtract", "multiply", "divide", "negative"}
COMPARISON = {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"}
LOGIC = {"bitwise_and", "bitwise_or", "invert"}
FUNCTIONS = {"sqrt", "absolute", "square", "rint"}


@dataclass(frozen=True)
class Node:
    """One step of a trace: an operation on earlier nodes (by index), or a leaf (by name or value)."""

    op: str
    args: tuple
    kind: str  # vector, mask, scalar or flag


@dataclass
class Trace:
    """The nodes of one formula, each distinct operation once."""

    rule: str
    nodes: list[Node] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)  # by repr: 0.0 and -0.0 are equal, and two constants

    def add(self, op: str, args: tuple, kind: str) -> "Symbol":
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
        self.refuse(
            "a symbol or a finite Python number", f"{type(value).__name__} {value!r}", "Convert constants with float(...)."
        )

    def refuse(self, what: str, received: object, advice: str) -> None:
        raise RuleError(f"Rule {self.rule!r}: " + expected(what, received, advice))


class Symbol(NDArrayOperatorsMixin):
    """Stands for a vector or a scalar while a formula is traced."""

    __hash__ = object.__hash__

    def __init__(self, trace: Trace, index: int, kind: str):
        self.trace, self.index, self.kind = trace, index, kind

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        trace, name = self.trace, ufunc.__name__
        known = ARITHMETIC | COMPARISON | LOGIC | FUNCTIONS
        if "out" in options:
            trace.refuse("new vectors", "a change in place (+=, -=, *=, /=)", "It would change the caller's arrays: write c = c + ...")
        if method != "__call__" or options or name not in known:
            trace.refuse(
                f"one of {', '.join(sorted(known))}, or np.where", f"np.{name}", "Write it with these; clip with np.where."
            )
        args = [trace.lift(value) for value in inputs]
        return trace.add(name, tuple(arg.index for arg in args), kind_of(trace, name, [arg.kind for arg in args]))

    def __array_function__(self, function, types, args, options):
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

    def __pow__(self, exponent):
        if type(exponent) not in (int, float) or exponent != 2 or self.kind != "vector":
            self.trace.refuse(
                "a power of 2, of a vector",
                f"{self.kind} ** {exponent!r}",
                "Multiply for other powers; use np.sqrt for roots; pass powers of scalars as scalars of their own.",
            )
        return self.trace.add("square", (self.index,), "vector")

    def __rpow__(self, base):
        self.trace.refuse("a power of 2, of a vector", f"{base!r} ** {self.kind}", "No kernel has exponentials.")

    def __bool__(self):
        self.trace.refuse(
            "a formula without branches",
            f"a branch (if, and, or, max, min) on a {self.kind}",
            "Both sides must be computed: write np.where(mask, a, b), and & or | between masks.",
        )

    def __float__(self):
        self.trace.refuse("numpy functions", f"a plain number made of a {self.kind}", "Use np.sqrt, not math.sqrt.")

    __int__ = __index__ = __float__

    def __getitem__(self, index: Any = None):
        self.trace.refuse("a formula for one element", f"a part of a {self.kind}, or its length", "A rule works element by element.")

    __len__ = __iter__ = __getitem__


def kind_of(trace: Trace, op: str, kinds: list[str]) -> str:
    """The kind of an operation's result, or a refusal."""
    inside = "vector" in kinds or "mask" in kinds
    wanted = {"mask", "flag"} if op in LOGIC else {"vector", "scalar"}
    if set(kinds) - wanted:
        trace.refuse(
            f"{' or '.join(sorted(wanted))} in {op}", " and ".join(kinds), "Masks go to np.where, &, | and ~ only."
        )
    if op in LOGIC or op in COMPARISON:
        if op in LOGIC and not inside:
            trace.refuse(f"a mask in {op}", "comparisons of scalars alone", "Python would not treat ~True as numpy does.")
        return "mask" if inside else "flag"
    if op in FUNCTIONS and not inside:
        trace.refuse(f"np.{op} of a vector", "a scalar", "numpy would make it float64; pass it as a scalar of its own.")
    return "vector" if inside else "scalar"


@dataclass(frozen=True, eq=False)
class Rule:
    """One exchange, element by element: the new center and the new worker from the old.

    Calling a rule on numpy arrays of one shape and dtype (float32 or float64) runs its formula and returns the new
    center, the new worker and the new state vectors; scalars are keyword arguments. That is the reference for
    every kernel.
    """

    name: str
    vectors: tuple[str, ...]
    scalars: tuple[str, ...]
    defaults: dict[str, float]
    nodes: tuple[Node, ...]
    outputs: dict[str, int]
    doc: str = ""
    formula: Callable | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the vectors that live beside the center."""
        return tuple(name for name in self.vectors if name not in ("c", "w", "p"))

    def fill(self, scalars: dict[str, float], counted: Collection[str] = ()) -> dict[str, float]:
        """Every scalar of the rule as a float: the given one, else its default, else 1 if it is ``counted`` by the engine.

        RuleError when one is missing or unknown.
        """
        defaults = dict.fromkeys(counted, 1.0) | self.defaults
        unknown = sorted(set(scalars) - set(self.scalars))
        missing = [name for name in self.scalars if name not in scalars and name not in defaults]
        if unknown or missing:
            what = f"the scalars ({', '.join(self.scalars)}) of rule {self.name!r}"
            advice = f"Missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
            raise RuleError(expected(what, f"({', '.join(scalars)})", advice))
        return {name: float(scalars[name] if name in scalars else defaults[name]) for name in self.scalars}

    def __call__(self, *vectors: np.ndarray, **scalars: float) -> tuple[np.ndarray, ...]:
        if len(vectors) != len(self.vectors):
            raise RuleError(expected(f"the vectors {', '.join(self.vectors)}", f"{len(vectors)} arrays", "Pass them in this order."))
        return (self.formula or self.replay)(*vectors, **self.fill(scalars))

    def replay(self, *vectors: np.ndarray, **scalars: float) -> tuple[np.ndarray, ...]:
        """The trace, node by node, in numpy: what a rule that came as JSON has for a formula."""
        leaves: dict[str, Any] = dict(zip(self.vectors, vectors, strict=True)) | scalars
        python = {"add": float.__add__, "subtract": float.__sub__, "multiply": float.__mul__, "divide": float.__truediv__}
        values: list[Any] = []
        for node in self.nodes:
            if node.op in ("vector", "scalar"):
                values.append(leaves[node.args[0]])
            elif node.op == "constant":
                values.append(node.args[0])
            else:
                args = [values[index] for index in node.args]
                if node.kind == "scalar":  # np.add of two floats would be a float64 that widens what it meets
                    values.append(-args[0] if node.op == "negative" else python[node.op](*args))
                else:
                    values.append(getattr(np, node.op)(*args))
        return tuple(values[index] for index in self.outputs.values())

    def to_dict(self) -> dict:
        """Plain data, for JSON; `from_dict` makes the same rule of it."""
        nodes = [[node.op, list(node.args), node.kind] for node in self.nodes]
        same = {name: getattr(self, name) for name in ("name", "vectors", "scalars", "defaults", "outputs", "doc")}
        return same | {"nodes": nodes}

    @classmethod
    def from_dict(cls, data: dict) -> "Rule":
        """The rule that `to_dict` wrote."""
        nodes = tuple(Node(op, tuple(args), kind) for op, args, kind in data["nodes"])
        tuples = {name: tuple(data[name]) for name in ("vectors", "scalars")}
        return cls(**{**data, **tuples, "nodes": nodes})


def rule(function: Callable) -> Rule:
    """Make a `Rule` of a formula: trace it once, and refuse what no kernel could do.

    Positional names are vectors: ``c`` the center, ``w`` the worker, ``p`` what the worker held after its last exchange,
    any other a state that lives beside the center and is born zero. Keyword-only names are scalars; ``window``,
    ``staleness`` and ``workers`` are filled in by the engine. It returns the new center, the new worker, and the new
    states in the order of the signature. The engine sets ``p`` to the new worker.

    >>> @rule
    ... def halfway(c, w):
    ...     '''Both meet in the middle.'''
    ...     m = (c + w) / 2
    ...     return m, m
    >>> halfway(np.float32([0, 4]), np.float32([2, 2]))
    (array([1., 3.], dtype=float32), array([1., 3.], dtype=float32))
    """
    trace = Trace(function.__name__)
    vectors, *_ = read_signature(trace, function)
    if not {"c", "w"} <= set(vectors):
        trace.refuse("a signature like (c, w, p, *, window)", f"({', '.join(vectors)})", "Name c and w at least.")
    return follow(trace, function, ("c", "w", *(name for name in vectors if name not in ("c", "w", "p"))))


def formula(*outputs: str) -> Callable[[Callable], Rule]:
    """Make a formula of vectors of any names, for what is not an exchange: `outputs` are those that it returns anew.

    >>> @formula("d")
    ... def difference(c, s, d):
    ...     return (c - s,)
    >>> difference(np.float32([3]), np.float32([1]), None)
    (array([2.], dtype=float32),)
    """
    return lambda function: follow(Trace(function.__name__), function, outputs)


def follow(trace: Trace, function: Callable, names: tuple[str, ...]) -> Rule:
    """Run the function on symbols; ``names`` are the vectors that it must return, in order."""
    vectors, scalars, defaults = read_signature(trace, function)
    symbols = [trace.add("vector", (name,), "vector") for name in vectors]
    numbers = {name: trace.add("scalar", (name,), "scalar") for name in scalars}
    try:
        results = function(*symbols, **numbers)
    except NameError as error:
        trace.refuse(
            "a formula that names its own arguments only", str(error), f"Declare {error.name!r} after the *: it is then a scalar."
        )
    if not isinstance(results, tuple) or len(results) != len(names):
        trace.refuse(f"a return of ({', '.join(names)})", repr(type(results).__name__), "Return the new vectors, in this order.")
    outputs = {}
    for name, result in zip(names, results, strict=True):
        if trace.lift(result).kind != "vector":
            trace.refuse(f"a vector as the new {name}", trace.lift(result).kind, "Write c * 0 for a vector of zeros.")
        outputs[name] = result.index
    doc = inspect.cleandoc(function.__doc__ or "")
    return Rule(function.__name__, vectors, scalars, defaults, tuple(trace.nodes), outputs, doc, function)


def read_signature(trace: Trace, function: Callable) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, float]]:
    """Names of vectors, names of scalars, defaults of scalars."""
    parameters = inspect.signature(function).parameters.values()
    vectors = tuple(p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD)
    scalars = tuple(p.name for p in parameters if p.kind == p.KEYWORD_ONLY)
    if len(vectors) + len(scalars) != len(list(parameters)):
        trace.refuse("a signature like (c, w, p, *, window)", f"({', '.join(map(str, parameters))})", "Name each argument.")
    if len(set(vectors) - {"c", "w", "p"}) > 5 or len(scalars) > 16:
        trace.refuse("at most 5 states and 16 scalars", f"{len(vectors)} vectors, {len(scalars)} scalars", "See DK_MAX_VECTORS.")
    for p in parameters:
        if p.default is not p.empty and (p.kind != p.KEYWORD_ONLY or type(p.default) not in (int, float)):
            trace.refuse("plain numbers as defaults, of scalars only", f"{p}", "Vectors have no defaults.")
    return vectors, scalars, {p.name: float(p.default) for p in parameters if p.default is not p.empty}
