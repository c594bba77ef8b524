"""The laws of laws.py over the registry, and those that are about one rule or two."""

import threading
import time

import laws
import numpy as np
import pytest

import dkcore as dk
from dkcore import rules

EACH_RULE = pytest.mark.parametrize("rule", laws.RULES, ids=lambda rule: rule.name)
EACH_DTYPE = pytest.mark.parametrize("dtype", laws.DTYPES)


@dk.rule
def everything(c, w, p, n, i, *, window, gain=0.3, floor=-0.5):
    """All that a trace knows, with states that are called like the kernel's own variables."""
    far = np.abs(w - np.rint(p)) > gain
    low = (c <= floor) | ~(w >= p) & (n != i)
    step = np.where(far & low, np.sqrt(np.square(w) + 1) / window, -((w - p) ** 2))
    late = np.where(window > 2, step * (gain + floor - 1), -0.0)
    return np.where(c == w, c * 0.0, c + step), np.where(low, w * -0.0, late), n + late, np.where(i < 0, gain, p)


@dk.rule
def born(c, w, p, *, window):
    """ADAG, but no built-in rule: numba compiles it at run time."""
    c = c + (w - p) * (1 / window)
    return c, c


@EACH_DTYPE
@EACH_RULE
@pytest.mark.parametrize("way", laws.WAYS)
def test_kernel_equals_numpy(rule, dtype, way):
    laws.kernel_equals_numpy(rule, dtype, way)


@EACH_DTYPE
@pytest.mark.parametrize("rule", [*laws.RULES, *(part for part in laws.PARTS if "w" in part.vectors)], ids=lambda rule: rule.name)
@pytest.mark.parametrize("way", laws.WAYS)
def test_a_kernel_that_looks_equals_numpy_up_to_what_is_not_finite(rule, dtype, way):
    laws.looking_kernel_equals_numpy(rule, dtype, way)


@EACH_DTYPE
@pytest.mark.parametrize("formula", laws.PARTS, ids=lambda formula: formula.name)
@pytest.mark.parametrize("way", laws.WAYS)
def test_formulas_of_nodes_equal_numpy(formula, dtype, way):
    laws.kernel_equals_numpy(formula, dtype, way)


@EACH_DTYPE
def test_a_kernel_that_looks_is_compiled_of_any_rule(dtype):
    laws.looking_kernel_equals_numpy(everything, dtype, "numba")


def test_merges_in_any_order_lose_nothing_and_end_equal():
    """The two halves of the merge in whole numbers: whatever workers add between and within rounds, all nodes end with the sum."""
    generator = np.random.default_rng(0)
    difference, absorb, agree = (laws.FORMULAS[f"merge_{name}"] for name in ("difference", "absorb", "agree"))
    for nodes in (2, 3, 5):
        centers, agreed, total = [np.zeros(20) for _ in range(nodes)], np.zeros(20), np.zeros(20)
        for last in [False] * 10 + [True]:
            given = []
            for node in range(nodes):
                given.append(difference(centers[node], agreed, None)[0])
                for _ in range(0 if last else generator.integers(3)):  # workers go on while the others give
                    step = generator.integers(-9, 9, 20)
                    centers[node], total = centers[node] + step, total + step
            if last:
                given = [difference(center, agreed, None)[0] for center in centers]
            summed, before = sum(given), agreed
            for node in range(nodes):
                new = agree(centers[node], before, summed) if last else absorb(centers[node], before, given[node], summed)
                centers[node], agreed = new
        assert all(np.array_equal(center, total) for center in centers)


@EACH_DTYPE
@EACH_RULE
def test_replay_equals_formula(rule, dtype):
    laws.replay_equals_formula(rule, dtype)


@EACH_DTYPE
@EACH_RULE
def test_agreement_is_a_fixed_point(rule, dtype):
    laws.agreement_is_a_fixed_point(rule, dtype)


@EACH_DTYPE
@pytest.mark.parametrize("rule", [*laws.RULES, born, everything], ids=lambda rule: rule.name)
def test_engine_equals_reference(rule, dtype):
    vectors = dict(zip(rule.vectors, laws.vectors_of(rule, dtype, 1003), strict=True))
    with dk.Center.create(vectors["c"], states=len(rule.states), stripe_bytes=64) as center:
        for _ in range(2):  # the second time with states that are not zero
            laws.engine_equals_reference(rule, center, vectors["w"], vectors.get("p"))


@EACH_DTYPE
def test_all_operations_agree(dtype):
    laws.kernel_equals_numpy(everything, dtype, "numba")
    laws.replay_equals_formula(everything, dtype)


@EACH_DTYPE
def test_aeasgd_conserves_the_sum_of_center_and_worker(dtype):
    c, w = laws.vectors_of(rules.aeasgd, dtype, 1000, special=False)
    center, worker = rules.aeasgd(c, w, alpha=0.3)
    np.testing.assert_allclose(center + worker, c + w, atol=4 * np.finfo(dtype).eps)
    c, w = (np.round(64 * vector) for vector in (c, w))
    center, worker = rules.aeasgd(c, w, alpha=0.25)
    np.testing.assert_array_equal(center + worker, c + w)  # dyadic numbers: no rounding


@EACH_DTYPE
def test_adag_of_window_one_is_downpour(dtype):
    vectors = laws.vectors_of(rules.adag, dtype, 1000)
    laws.assert_same_bits(
        laws.reference(rules.adag, vectors, {"window": 1}), laws.reference(rules.downpour, vectors, {}), rules.adag.vectors
    )


def test_a_rule_born_at_run_time_loses_nothing_beside_others():
    """Four threads in the engine at once, two by numba and two in C: they take turns at the same locks."""
    size, times = 5000, 200
    with dk.Center.create(np.zeros(size), stripe_bytes=1024) as center:

        def work(rule):
            with center.worker() as worker:
                w = np.empty(size)
                call = worker.call(rule, window=1)
                worker.pull_call(call.p).flat(w)
                for _ in range(times):
                    w += 1
                    call.flat(w)

        threads = [threading.Thread(target=work, args=(rule,)) for rule in (born, rules.adag, born, rules.adag)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_array_equal(center.snapshot(), 4 * times)


def test_a_rule_born_at_run_time_releases_the_gil_and_holds_the_lock():
    @dk.rule
    def slow(c, w):
        x = c * c + 1
        for _ in range(80):
            x = np.sqrt(x + w * w)
        return c + x, w

    size = 2_000_000
    with dk.Center.create(np.zeros(size), stripe_bytes=8 * size) as center, center.worker() as worker, center.worker() as other:
        w, mine = np.ones(size), np.ones(size)
        call, hasty = worker.call(slow), other.call(rules.aeasgd, timeout=0.001)
        call.flat(w)  # compiled, and all pages touched
        thread = threading.Thread(target=call.flat, args=(w,))
        refused, last, longest = 0, time.perf_counter(), 0.0
        thread.start()
        while thread.is_alive():  # each turn needs the GIL
            try:
                hasty.flat(mine)
            except dk.errors.StripeTimeoutError:
                refused += 1
            else:
                time.sleep(0.001)  # the lock is not fair
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        thread.join()
    assert call.seconds > 0.1, "the exchange was too short to prove anything"
    assert longest < call.seconds / 2
    assert refused > 2
