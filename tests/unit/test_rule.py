"""Rules: what is traced, what is refused at definition and with which advice, and what a redefinition means."""

import math

import laws
import numpy as np
import pytest

import dkcore as dk
from dkcore import rules
from dkcore.engine import compile
from dkcore.errors import RuleError


def test_the_decorators_are_public_whatever_is_imported_first(script):
    both = "from dkcore import rules\nfrom dkcore.formula import rule, synchronous\n"
    both += "print(dk.rule is rule.rule, dk.synchronous is synchronous.synchronous)"
    assert script(both).end() == script("dk.rules.adag\n" + both).end() == "True True\n"


def refused(formula, *text: str) -> None:
    """The formula is refused where it is defined; the message names it and has these pieces."""
    with pytest.raises(RuleError) as caught:
        dk.rule(formula)
    message = str(caught.value)
    assert message.startswith(f"Rule {formula.__name__!r}: Expected ")
    for piece in ("Received: ", *text):
        assert piece in message


def branch(c, w):
    return (c, w) if c > w else (w, c)


def conjunction(c, w):
    return np.where(c > w and c > 0, c, w), w


def largest(c, w):
    return max(c, w), w


def smallest(c, w):
    return min(c, w), w


@pytest.mark.parametrize("formula", [branch, conjunction, largest, smallest])
def test_a_branch_on_a_vector_is_refused(formula):
    refused(formula, "a formula without branches", "on a mask", "write np.where(mask, a, b)")


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (lambda c, w: (c**3, w), "vector ** 3"),
        (lambda c, w: (c**0.5, w), "use np.sqrt for roots"),
        (lambda c, w: (c**w, w), "a power of 2, of a vector"),
        (lambda c, w, *, lr: (c * lr**2, w), "scalar ** 2"),
        (lambda c, w: (2**c, w), "No kernel has exponentials"),
        (lambda c, w: (np.power(c, 2), w), "np.power"),
        (lambda c, w: (np.float64(0.1) * c, w), "Convert constants with float(...)"),
        (lambda c, w: (c * np.float32(0.1), w), "a symbol or a finite Python number"),
        (lambda c, w: (c + True, w), "bool True"),
        (lambda c, w: (c * math.inf, w), "float inf"),
        (lambda c, w: (c * [1, 2], w), "list [1, 2]"),
        (lambda c, w: (np.where(c > w, 1.0, 0.0), w), "numpy makes a choice of two scalars float64"),
        (lambda c, w: (np.where(c > w, c > 0, c), w), "np.where to choose between vectors"),
        (lambda c, w: (np.where(c, w, c), w), "Write np.where(c > w, ...)"),
        (lambda c, w: (np.where(True, w, c), w), "bool True"),
        (lambda c, w: (np.exp(c), w), "np.exp"),
        (lambda c, w: (np.maximum(c, w), w), "clip with np.where"),
        (lambda c, w: (np.sum(c) * w, w), "A rule works element by element"),
        (lambda c, w: (np.clip(c, 0, 1), w), "A rule works element by element"),
        (lambda c, w: (np.add.reduce(c) * w, w), "Expected one of absolute"),
        (lambda c, w: (c @ w, w), "np.matmul"),
        (lambda c, w: (c[0] * w, w), "a part of a vector"),
        (lambda c, w: (sum(c) * w, w), "a part of a vector"),
        (lambda c, w: (c / len(w), w), "a part of a vector, or its length"),
        (lambda c, w, *, lr: (math.sqrt(lr) * c, w), "Use np.sqrt, not math.sqrt"),
        (lambda c, w, *, lr: (np.sqrt(lr) * c, w), "pass it as a scalar of its own"),
        (lambda c, w: (c + (c > w), w), "Masks go to np.where"),
        (lambda c, w: (np.where(~c, c, w), w), "in invert"),
        (lambda c, w, *, lr: (np.where((lr > 0) & (lr < 1), c, w), w), "Python would not treat ~True as numpy does"),
        (lambda c, w: (c + momentum, w), "Declare 'momentum' after the *"),  # noqa: F821
    ],
)
def test_what_no_kernel_could_do_is_refused(formula, text):
    refused(formula, text)


def in_place(c, w, p):
    c += w - p
    return c, c


def in_place_power(c, w):
    w **= 2
    return c, w


@pytest.mark.parametrize("formula", [in_place, in_place_power])
def test_a_change_in_place_is_refused(formula):
    refused(formula, "a change in place", "write c = c + ...")


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (lambda c, p: (c, p), "(c, p)"),
        (lambda w: w, "Name c and w at least"),
        (lambda c, w, *more: (c, w), "*more"),
        (lambda c, w, **more: (c, w), "a signature like (c, w, p, *, window)"),
        (lambda c, w, /: (c, w), "a signature like (c, w, p, *, window)"),
        (lambda c, w, p=1: (c, w), "Vectors have no defaults"),
        (lambda c, w, *, lr="0.1": (c, w), "plain numbers as defaults"),
        (lambda c, w, *, nesterov=True: (c, w), "plain numbers as defaults"),
        (lambda c, w, a, b, d, e, f, g, h: (c, w), "at most 5 states and 16 scalars"),
    ],
)
def test_a_bad_signature_is_refused(formula, text):
    refused(formula, text)


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (lambda c, w: c, "a return of (c, w)"),
        (lambda c, w: [c, w], "'list'"),
        (lambda c, w: None, "'NoneType'"),
        (lambda c, w: (c, w, c), "Return the new vectors, in this order"),
        (lambda c, w, squares: (c, w), "a return of (c, w, squares)"),
        (lambda c, w: (0.0, w), "a vector as the new c"),
        (lambda c, w: (c, c > w), "a vector as the new w"),
        (lambda c, w, *, lr: (c, lr), "Write c * 0 for a vector of zeros"),
    ],
)
def test_a_bad_return_is_refused(formula, text):
    refused(formula, text)


def test_a_call_that_does_not_fit_is_refused():
    c = np.zeros(3)
    with pytest.raises(RuleError, match=r"the scalars \(window\) of rule 'adag'. Received: \(windw\). Missing: window; .*: windw"):
        rules.adag(c, c, c, windw=3)
    with pytest.raises(RuleError, match="the vectors c, w, p. Received: 2 arrays"):
        rules.adag(c, c, window=3)


def test_constants_are_told_apart_by_their_sign():
    zeros = dk.rule(lambda c, w: (c * 0.0, w * -0.0))
    laws.kernel_equals_numpy(zeros, "float64", "numba")


def test_a_formula_may_use_constants_and_functions_of_its_module():
    @dk.rule
    def scaled(c, w, p, *, lr=0.5):
        return c + lr * math.pi * abs(w - p), w

    laws.kernel_equals_numpy(scaled, "float32", "numba")


@pytest.mark.parametrize("name", ["mine", "downpour", "agn"])
def test_a_redefinition_uses_the_new_formula(name):
    """In a notebook a cell is run again and again; the name may even be that of a built-in rule."""

    def define(formula):
        formula.__name__ = name
        return dk.rule(formula)

    first = define(lambda c, w, p: (c + (w - p), c + (w - p)))
    second = define(lambda c, w, p: (c + (w - p), w))  # the same operations, but the worker keeps its weights
    third = define(lambda c, w, p, *, window: (c + (w - p) / window, c + (w - p) / window))  # that of adag, as agn
    with dk.Center.create(np.ones(3)) as center:
        w, p = np.full(3, 2.0), np.zeros(3)
        center.exchange(first, w, p)
        assert center.snapshot()[0] == w[0] == p[0] == 3
        w += 4
        center.exchange(second, w, p)
        assert (center.snapshot()[0], w[0], p[0]) == (7, 7, 7)
        w += 2
        center.exchange(second, w, p)
        center.exchange(second, w, p - 1)
        assert (center.snapshot()[0], w[0], p[0]) == (10, 9, 9)
        center.exchange(third, w, p - 6, window=3)
        assert (center.snapshot()[0], w[0]) == (12, 12)


def test_an_unknown_kernel_is_refused():
    mine = dk.rule(lambda c, w: (c, c))
    with pytest.raises(RuleError, match="a kernel of 'adag' among: numba, .*baseline. Received: sse9"):
        compile.compile_kernel(rules.adag, "float32", "sse9")
    with pytest.raises(RuleError, match="among: numba. Received: baseline"):
        compile.compile_kernel(mine, "float32", "baseline")
    with pytest.raises(dk.errors.LayoutError, match="float32 or float64. Received: float16"):
        compile.compile_kernel(mine, "float16")
    with pytest.raises(RuleError, match="a rule. Received: 3"):
        compile.compile_kernel(3, "float32")
