"""`Center.exchange` once more: what the engine remembers of the last call spares no check, and changes no result."""

import numpy as np
import pytest

import dkcore as dk
from dkcore import rules
from dkcore.errors import LayoutError, RuleError

SIZE = 100


def of(size: int = SIZE, dtype: str = "f4") -> np.ndarray:
    return np.zeros(size, dtype)


def read_only() -> np.ndarray:
    array = of()
    array.flags.writeable = False
    return array


@pytest.fixture
def center():
    """One that has seen an exchange by adag, and one by its name; one by aeasgd, with its scalar and without."""
    with dk.Center.create(of()) as made:
        for rule in (rules.adag, "adag"):
            made.exchange(rule, of(), of(), window=12)
        for scalars in ({}, {"alpha": 0.25}):
            made.exchange(rules.aeasgd, of(), **scalars)
        yield made


W, P = of(), of()
GOOD = {"window": 12}
ELASTIC = {"alpha": 0.25}
WRONG = [
    (rules.adag, (W, P), {}, RuleError, r"the scalars \(window\) of rule 'adag'. Received: \(\)"),
    ("adag", (W, P), {}, RuleError, r"Missing: window; unknown: none"),
    (rules.adag, (W, P), {"windows": 12}, RuleError, "Missing: window; unknown: windows"),
    (rules.adag, (W, P), {"window": 12, "lr": 1}, RuleError, "Missing: none; unknown: lr"),
    (rules.aeasgd, (W,), {"beta": 0.25}, RuleError, "unknown: beta"),
    (rules.adag, (W, P), {"staleness": 12}, RuleError, "no scalar that the engine fills in"),
    (rules.adag, (W, P), {"window": "many"}, TypeError, "must be real number, not str"),
    (rules.adag, (W, P), {"window": None}, TypeError, "must be real number, not NoneType"),
    (rules.adag, (W,), GOOD, RuleError, "p for rule 'adag'. Received: none"),
    (rules.aeasgd, (W, P), ELASTIC, RuleError, "no p for rule 'aeasgd'. Received: one"),
    (rules.adag, (of(99), P), GOOD, LayoutError, "w of 100 float32. Received: 99 float32"),
    (rules.adag, (W, of(101)), GOOD, LayoutError, "p of 100 float32. Received: 101 float32"),
    (rules.adag, (of(dtype="f8"), P), GOOD, LayoutError, "Received: 100 float64"),
    (rules.adag, (W, of(dtype=">f4")), GOOD, LayoutError, "Received: 100 >f4"),
    (rules.adag, (read_only(), P), GOOD, ValueError, "w contiguous, aligned and writeable"),
    (rules.adag, (W, read_only()), GOOD, ValueError, "p contiguous, aligned and writeable"),
    (rules.adag, (of(200)[::2], P), GOOD, ValueError, "w contiguous, aligned and writeable"),
    (rules.adag, ([0.0] * SIZE, P), GOOD, TypeError, "w as a numpy array. Received: list"),
    (rules.adag, (None, P), GOOD, TypeError, "w as a numpy array. Received: NoneType"),
    (rules.adag, (P, P), GOOD, ValueError, "memory of their own"),
    (len, (W, P), GOOD, RuleError, "a rule. Received: <built-in function len>"),
    ("adagg", (W, P), GOOD, RuleError, "Did you mean 'adag'"),
    ({}, (W, P), GOOD, TypeError, "unhashable type: 'dict'"),
    (rules.adagrad, (W, P), {}, RuleError, "1 state vectors for rule 'adagrad'. Received: 0"),
]


@pytest.mark.parametrize(("rule", "vectors", "scalars", "error", "text"), WRONG)
def test_what_is_refused_the_first_time_is_refused_later(center, rule, vectors, scalars, error, text):
    for _ in range(2):
        with pytest.raises(error, match=text):
            center.exchange(rule, *vectors, **scalars)
    assert center.versions.tolist() == [4]
    center.exchange(rules.adag, W, P, **GOOD)  # it goes on as if nothing had happened
    assert center.versions.tolist() == [5]


def test_a_worker_that_became_read_only_is_refused(center):
    w = of()
    center.exchange(rules.adag, w, P, **GOOD)
    w.flags.writeable = False
    with pytest.raises(ValueError, match="w contiguous, aligned and writeable"):
        center.exchange(rules.adag, w, P, **GOOD)


def test_a_closed_center_is_refused(center):
    center.close()
    for rule, vectors, scalars in ((rules.adag, (W, P), GOOD), ("adag", (W, P), GOOD), (rules.aeasgd, (W,), ELASTIC)):
        with pytest.raises(ValueError, match="Expected an open center. Received: a closed one"):
            center.exchange(rule, *vectors, **scalars)


@pytest.mark.parametrize("by", [lambda rule: rule, lambda rule: rule.name], ids=["rule", "name"])
def test_arrays_and_scalars_are_those_of_each_call(by):
    """Of rules in turn, with other arrays and scalars each time, given in any order: as the formula on the same arrays."""
    rng, c, states = np.random.default_rng(0), of(), of()
    turns = [(rules.adag, {"window": 3}), (rules.adag, {"window": np.float64(2)}), (rules.aeasgd, {}), (rules.aeasgd, {"alpha": 0.125}),
             (rules.dc_asgd, {"lam": 0.5, "lr": 2}), (rules.dc_asgd, {"lr": 4, "lam": 0.25}), (rules.dc_asgd, {"lr": 4}),
             (rules.adagrad, {"lr": 0.5}), (rules.adag, {"window": 3})]  # fmt: skip
    with dk.Center.create(c, states=1) as center:
        for rule, scalars in turns * 2:
            w, p = (rng.standard_normal(SIZE).astype("f4") for _ in "wp")
            previous = (p,) if "p" in rule.vectors else ()
            wanted = rule(c, w.copy(), *(each.copy() for each in previous), *(states,) * len(rule.states), **scalars)
            assert center.exchange(by(rule), w, *previous, **scalars) == 0.0
            c, states = wanted[0], wanted[2] if rule.states else states
            for seen, result in ((center.snapshot(), c), (w, wanted[1]), (p if previous else w, wanted[1])):
                np.testing.assert_array_equal(seen, result)
        assert len(center.slots()) == 1
