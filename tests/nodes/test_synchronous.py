"""Synchronous methods: real ranks against numpy, on one node and on two; who leaves early; methods of one's own."""

from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import KINDS, python

import dkcore as dk
from dkcore import errors
from dkcore.formula.synchronous import Synchronous
from dkcore.rules import METHODS

SCRIPT = str(Path(__file__).with_name("round_rank.py"))
SIZE, ROUNDS = 70_001, 6
SCALARS = {"averaging": {}, "easgd": {"alpha": 0.3}, "halfway": {}}
SCALARS |= {"diloco": {"lr": 0.7, "momentum": 0.9}, "slowmo": {"lr": 0.5, "momentum": 0.6}}


def expected(name: str, ranks: int, uneven: int = 0) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """The center in the end, and what each worker held after each round, straight from the papers."""
    s = SCALARS[name]
    c, v = np.linspace(-1, 1, SIZE), np.zeros(SIZE)
    w, held = [c.copy() for _ in range(ranks)], [[] for _ in range(ranks)]
    for number in range(ROUNDS):
        present = [rank for rank in range(ranks) if number < ROUNDS - uneven * rank]
        for rank in present:
            w[rank] = w[rank] + (rank + 1) * np.cos(np.arange(SIZE) + number)
        mean = np.mean([w[rank] for rank in present], axis=0)
        if name == "easgd":
            beta = s["alpha"] * len(present)
            before = c
            c = (1 - beta) * c + beta * mean
            for rank in present:
                w[rank] = w[rank] - s["alpha"] * (w[rank] - before)
        else:
            if name == "averaging":
                c = mean
            elif name == "halfway":
                c = (c + mean) / 2
            elif name == "diloco":
                v = s["momentum"] * v + (mean - c)
                c = c + s["lr"] * (s["momentum"] * v + (mean - c))
            else:
                v = s["momentum"] * v + (mean - c)
                c = c + s["lr"] * v
            for rank in present:
                w[rank] = c
        for rank in present:
            held[rank].append(w[rank])
    return c, held


def check(folder: Path, name: str, ranks: int, uneven: int = 0, tolerance: float = 1e-12) -> None:
    """All ranks hold the same center, to the last bit, and it is the one of the papers."""
    center, held = expected(name, ranks, uneven)
    found = [np.load(folder / f"rank-{rank}.npz") for rank in range(ranks)]
    for rank, one in enumerate(found):
        np.testing.assert_array_equal(one["center"], found[0]["center"])
        np.testing.assert_allclose(one["held"], held[rank], rtol=tolerance, atol=tolerance * 10)
    np.testing.assert_allclose(found[0]["center"], center, rtol=tolerance, atol=tolerance * 10)


def settings(name: str, **more: object) -> list[str]:
    return [f"{key}={value}" for key, value in {**SCALARS[name], **more}.items()]


@pytest.mark.parametrize("name", SCALARS)
def test_a_method_is_that_of_its_paper(name, tmp_path):
    done = python("mpich", SCRIPT, str(tmp_path), name, str(SIZE), str(ROUNDS), *settings(name), ranks=3)
    assert done.returncode == 0, done.stderr
    check(tmp_path, name, 3)


@pytest.mark.parametrize("name", ["diloco", "easgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_does_not_matter_on_how_many_nodes(name, kind, two_nodes, tmp_path):
    done = two_nodes.run(kind, SCRIPT, str(tmp_path), name, str(SIZE), str(ROUNDS), *settings(name), ranks_per_node=2)
    assert done.returncode == 0, done.stderr
    check(tmp_path, name, 4)


@pytest.mark.parametrize("nodes", [1, 2])
def test_who_leaves_early_holds_nobody_up(nodes, two_nodes, tmp_path):
    """Rank r takes part in r rounds less; the mean is of those that came. A node may be left with none."""
    arguments = [SCRIPT, str(tmp_path), "averaging", str(SIZE), str(ROUNDS), *settings("averaging", uneven=1)]
    done = two_nodes.run("mpich", *arguments, ranks_per_node=2) if nodes == 2 else python("mpich", *arguments, ranks=4)
    assert done.returncode == 0, done.stderr
    check(tmp_path, "averaging", 4, uneven=1)


def test_compression_keeps_nodes_equal_and_forgets_nothing(two_nodes, tmp_path):
    """What int8 held back of one round is in the next: the center stays near, and does not drift away."""
    done = two_nodes.run("mpich", SCRIPT, str(tmp_path), "averaging", str(SIZE), str(ROUNDS), "compression=int8", ranks_per_node=2)
    assert done.returncode == 0, done.stderr
    check(tmp_path, "averaging", 4, tolerance=0.02)


# ---------------------------------------------------------------------- definitions


def test_every_method_has_its_place():
    assert set(METHODS) == {"averaging", "easgd", "diloco", "slowmo"}
    for name, method in METHODS.items():
        assert getattr(dk.rules, name) is method
        assert method.doc
        copy = Synchronous.from_dict(method.to_dict())
        assert (copy.name, copy.states, copy.scalars, copy.defaults, copy.pull) == (
            method.name, method.states, method.scalars, method.defaults, method.pull
        )  # fmt: skip


def test_a_definition_that_cannot_be_meant_is_refused():
    with pytest.raises(errors.RuleError, match="vectors c and t first"):

        @dk.synchronous
        def backwards(t, c):
            return (c + t,)

    with pytest.raises(errors.RuleError, match="return of"):

        @dk.synchronous
        def forgetful(c, t, v):
            return (c + t,)


def test_scalars_are_checked():
    with pytest.raises(errors.RuleError, match="Unknown: alfa"):
        dk.rules.easgd.fill({"alfa": 1.0})
    with pytest.raises(errors.RuleError, match="alpha"):
        dk.rules.easgd.fill({})
    assert dk.rules.diloco.fill({}, ("workers",)) == {"workers": 1.0, "lr": 0.7, "momentum": 0.9}


def test_a_center_not_made_for_it_is_refused():
    with dk.Center.create(np.zeros(2, np.float32), states=1) as center:
        with pytest.raises(errors.RuleError, match="center made for 'averaging'. Received: one for asynchronous rules"):
            dk.Exchange(center, dk.rules.averaging)
        with pytest.raises(ValueError, match="no max_staleness"):
            dk.Exchange(center, dk.rules.averaging, max_staleness=3)
