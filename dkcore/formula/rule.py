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
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from dkcore.arrays import Array
from dkcore.errors import RuleError, expected
from dkcore.formula.trace import Node, Trace

__all__ = ["ENGINE_SCALARS", "Formula", "Rule", "formula", "rule", "validate_not_counted"]

ENGINE_SCALARS = ("window", "staleness", "workers")
Formula: TypeAlias = Callable[..., tuple[Array, ...]]  # of vectors and keyword-only numbers


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
    formula: Formula | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the vectors that live beside the center."""
        return tuple(name for name in self.vectors if name not in ("c", "w", "p"))

    @property
    def copies(self) -> bool:
        """Whether center and worker after an exchange are what one of them was before it."""
        leaves = [self.nodes[self.outputs[name]].args[0] for name in ("c", "w") if self.nodes[self.outputs[name]].op == "vector"]
        return len(leaves) == 2 and {*leaves} <= {"c", "w"}

    def fill(self, scalars: Mapping[str, float], counted: Collection[str] = ()) -> dict[str, float]:
        """Every scalar of the rule as a float: the given one, else its default, else 1 if it is ``counted`` by the engine.

        RuleError when one is missing or unknown, or given although the engine counts it.
        """
        validate_not_counted(scalars, counted)
        defaults = dict.fromkeys(counted, 1.0) | self.defaults
        unknown = sorted(set(scalars) - set(self.scalars))
        missing = [name for name in self.scalars if name not in scalars and name not in defaults]
        if unknown or missing:
            what = f"the scalars ({', '.join(self.scalars)}) of rule {self.name!r}"
            advice = f"Missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
            raise RuleError(expected(what, f"({', '.join(scalars)})", advice))
        return {name: float(scalars[name] if name in scalars else defaults[name]) for name in self.scalars}

    def __call__(self, *vectors: Array, **scalars: float) -> tuple[Array, ...]:
        if len(vectors) != len(self.vectors):
            raise RuleError(expected(f"the vectors {', '.join(self.vectors)}", f"{len(vectors)} arrays", "Pass them in this order."))
        return (self.formula or self.replay)(*vectors, **self.fill(scalars))

    def replay(self, *vectors: Array, **scalars: float) -> tuple[Array, ...]:
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

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; `from_dict` makes the same rule of it."""
        nodes = [[node.op, list(node.args), node.kind] for node in self.nodes]
        same = {name: getattr(self, name) for name in ("name", "vectors", "scalars", "defaults", "outputs", "doc")}
        return same | {"nodes": nodes}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Rule":
        """The rule that `to_dict` wrote."""
        nodes = tuple(Node(op, tuple(args), kind) for op, args, kind in data["nodes"])
        tuples = {name: tuple(data[name]) for name in ("vectors", "scalars")}
        return cls(**{**data, **tuples, "nodes": nodes})


def validate_not_counted(scalars: Collection[str], counted: Collection[str]) -> None:
    """RuleError when somebody gives what the engine counts: it would be overwritten at the next exchange."""
    if given := [name for name in scalars if name in counted]:
        ways = {"window": "set the window by its own argument", "workers": "start as many workers", "staleness": "it is what happened"}
        advice = f"Leave it out: {'; '.join(ways.get(name, name) for name in given)}."
        raise RuleError(expected(f"no scalar that the engine fills in ({', '.join(counted)})", ", ".join(given), advice))


def rule(function: Formula) -> Rule:
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


def formula(*outputs: str) -> Callable[[Formula], Rule]:
    """Make a formula of vectors of any names, for what is not an exchange: `outputs` are those that it returns anew.

    >>> @formula("d")
    ... def difference(c, s, d):
    ...     return (c - s,)
    >>> difference(np.float32([3]), np.float32([1]), None)
    (array([2.], dtype=float32),)
    """
    return lambda function: follow(Trace(function.__name__), function, outputs)


def follow(trace: Trace, function: Formula, names: tuple[str, ...]) -> Rule:
    """Run the function on symbols; ``names`` are the vectors that it must return, in order."""
    vectors, scalars, defaults = read_signature(trace, function)
    symbols = [trace.add("vector", (name,), "vector") for name in vectors]
    numbers = {name: trace.add("scalar", (name,), "scalar") for name in scalars}
    try:
        results = function(*symbols, **numbers)
    except NameError as error:
        trace.refuse("a formula that names its own arguments only", str(error), f"Declare {error.name!r} after the *: it is then a scalar.")
    if not isinstance(results, tuple) or len(results) != len(names):
        trace.refuse(f"a return of ({', '.join(names)})", repr(type(results).__name__), "Return the new vectors, in this order.")
    outputs = {}
    for name, result in zip(names, results, strict=True):
        symbol = trace.lift(result)
        if symbol.kind != "vector":
            trace.refuse(f"a vector as the new {name}", symbol.kind, "Write c * 0 for a vector of zeros.")
        outputs[name] = symbol.index
    doc = inspect.cleandoc(function.__doc__ or "")
    return Rule(function.__name__, vectors, scalars, defaults, tuple(trace.nodes), outputs, doc, function)


def read_signature(trace: Trace, function: Formula) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, float]]:
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
