"""The simulator: laws of time, staleness, bytes and merges, and that its arithmetic is that of the rules."""

import math
from dataclasses import replace
from functools import partial

import laws
import numpy as np
import pytest

from dkcore.rules import METHODS, REGISTRY
from dkcore.simulation import Simulation
from dkcore.simulation.node import Bound
from dkcore.simulation.optimizers import SGD, STEPS, Adam, Nesterov
from dkcore.simulation.problems import DIGITS, Digits, Perceptron, Quadratic
from dkcore.simulation.training import Training

ALIKE = {"jitter": 0.0, "window": 4, "step_time": 0.01, "exchange_time": 1e-4}
FAST_LINK = {"bandwidth": 1e12, "latency": 0.0}


class Counting:
    """Every step adds 1 to the weights: sums that are exact, whatever their order."""

    size = 5

    def start(self):
        return np.zeros(self.size)

    def gradient(self, worker):
        return lambda weights: np.full(self.size, -1.0)

    def evaluate(self, weights):
        return {"loss": float(weights[0])}


count_up = partial(SGD, learning_rate=1.0)


def centers(monkeypatch, plan, problem, step, **much) -> list[np.ndarray]:
    """What the nodes hold in the end."""
    made = []
    begin = Training.__init__
    monkeypatch.setattr(Training, "__init__", lambda self, *arguments: (made.append(self), begin(self, *arguments))[1])
    plan.run(problem=problem, step=step, **much)
    return made[0].centers


# Time


def test_one_worker_takes_its_steps_and_its_exchanges():
    found = Simulation(workers=1, **ALIKE).run(exchanges=50)
    assert found.elapsed == pytest.approx(50 * (4 * 0.01 + 1e-4))
    assert (found.exchanges, found.samples, found.mean_staleness) == (50, 50 * 4 * 32, 0)
    assert found.efficiency == pytest.approx(1)
    assert found.utilisation == pytest.approx(0.04 / 0.0401)


@pytest.mark.parametrize("lanes", [1, 3])
def test_memory_that_is_full_sets_the_pace(lanes):
    found = Simulation(workers=100, lanes=lanes, **ALIKE | {"exchange_time": 0.01}).run(duration=20.0)
    assert found.exchanges_per_s == pytest.approx(lanes / 0.01, rel=0.01)
    assert found.efficiency == pytest.approx(found.exchanges_per_s * 0.05 / 100, rel=0.01)
    assert found.utilisation == pytest.approx(found.exchanges_per_s * 0.04 / 100, rel=0.06)  # the first window of all is worked at once


def test_jitter_is_the_deviation_of_a_step():
    steps = Simulation(workers=1, **ALIKE | {"jitter": 0.5, "exchange_time": 0.0})
    times = [replace(steps, seed=seed).run(exchanges=1).elapsed for seed in range(400)]
    assert np.mean(times) == pytest.approx(0.04, rel=0.04)
    assert np.std(times) == pytest.approx(0.5 * 0.01 * 4**0.5, rel=0.12)


def test_the_time_of_an_exchange_is_that_of_the_rules_memory_streams():
    times = {rule: Simulation(rule=rule, weights=1_000_000, memory_bandwidth=1e9).exchange_seconds for rule in ("aeasgd", "adag")}
    assert times == {"aeasgd": pytest.approx(0.016), "adag": pytest.approx(0.024)}


def test_a_seed_tells_everything():
    settings = {"workers": 7, "nodes": 2, "jitter": 0.3, "stragglers": {1: 2.0}}
    first, same, other = (Simulation(seed=seed, **settings).run(exchanges=30).to_dict() for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_ten_thousand_workers():
    found = Simulation(workers=10_000, nodes=100, exchange_time=1e-6).run(exchanges=3)
    assert found.exchanges == 30_000
    assert sum(found.histogram.values()) == 30_000


# Staleness


@pytest.mark.parametrize("workers", [1, 5, 40])
def test_mean_staleness_is_the_number_of_others(workers):
    found = Simulation(workers=workers, **ALIKE).run(exchanges=50)
    # The first exchange finds those only who came before: on average half of the others.
    assert found.mean_staleness == pytest.approx((workers - 1) * (1 - 1 / 100))
    assert found.percentile(50) == workers - 1
    jittered = Simulation(workers=workers, **ALIKE | {"jitter": 0.5}).run(exchanges=50)
    assert jittered.mean_staleness == pytest.approx((workers - 1) * (1 - 1 / 100), rel=0.02)


def test_a_straggler_finds_more_commits_and_the_others_find_fewer():
    found = Simulation(workers=8, stragglers={3: 3.0}, **ALIKE).run(duration=40.0)
    assert found.stale[3] == pytest.approx(3 * 7, rel=0.02)
    assert found.stale[0] == pytest.approx(6 + 1 / 3, rel=0.02)


@pytest.mark.parametrize("nodes", [2, 4])
def test_commits_of_other_nodes_count_when_a_merge_applies_them(nodes):
    plan = Simulation(workers=8, nodes=nodes, merge_every=0.02, **FAST_LINK, **ALIKE)
    found = plan.run(exchanges=100)
    assert found.mean_staleness == pytest.approx(7, rel=0.05)
    apart = Simulation(workers=8, nodes=nodes, merge_every=1e6, **FAST_LINK, **ALIKE).run(duration=4.0)
    assert apart.mean_staleness == pytest.approx(8 / nodes - 1, rel=0.02)


def test_nobody_is_further_ahead_than_the_bound():
    settings = {"workers": 4, "stragglers": {0: 5.0}, **ALIKE}
    bound, free = (Simulation(max_staleness=ahead, **settings).run(duration=40.0) for ahead in (2, None))
    assert free.exchanges > 2.5 * bound.exchanges
    assert bound.exchanges == pytest.approx(4 * 40 / (5 * 0.04), rel=0.05)
    assert max(bound.histogram) <= 3 * (2 * 2 + 1)  # of each other worker, from 2 behind me to 2 ahead, and one between
    assert bound.utilisation == pytest.approx((1 + 3 / 5) / 4, rel=0.05)


def test_a_bound_of_zero_keeps_clocks_within_one_and_frees_who_waits():
    bound = Bound(3, 0)
    assert bound.admits(0) and bound.tick(0, False) == []
    assert bound.admits(2) and bound.tick(2, False) == []
    assert not bound.admits(2)
    assert not bound.admits(0)
    assert bound.admits(1) and bound.tick(1, False) == [2, 0]
    assert bound.admits(1) and bound.tick(1, False) == []
    assert not bound.admits(1)
    assert bound.tick(0, True) == []
    assert bound.tick(2, True) == [1]
    assert bound.tick(1, True) == []


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_who_leaves_is_not_waited_for(ahead):
    found = Simulation(workers=5, nodes=2, max_staleness=ahead, stragglers={4: 3.0}, jitter=0.5).run(exchanges=20)
    assert found.exchanges == 100


# Merges


@pytest.mark.parametrize(("nodes", "share"), [(2, 1.0), (3, 4 / 3), (4, 1.5)])
def test_bytes_of_a_leader_do_not_grow_with_the_nodes(nodes, share):
    plan = Simulation(workers=8, nodes=nodes, weights=1_000_000, merge_every=0.5, bandwidth=1e9, latency=1e-3)
    found = plan.run(duration=10.0)
    assert found.bytes_per_merge == pytest.approx(4e6 * share)
    assert found.bytes_per_leader == pytest.approx(found.merges * 4e6 * share)
    assert plan.merge_seconds == pytest.approx(4e-3 * share + 2 * (nodes - 1) * 1e-3)


@pytest.mark.parametrize(("compression", "ratio"), [("none", 1), ("bf16", 0.5), ("fp16", 0.5), ("int8", 0.251), ("topk:0.01", 0.0201)])
def test_compression_divides_bytes_and_time(compression, ratio):
    plain, small = (Simulation(nodes=2, latency=0.0, merge_compression=name) for name in ("none", compression))
    assert small.merge_bytes == pytest.approx(ratio * plain.merge_bytes, rel=0.005)
    assert small.merge_seconds == pytest.approx(ratio * plain.merge_seconds, rel=0.005)


def test_merges_keep_their_pace():
    settings = {"workers": 8, "nodes": 2, "weights": 10, **ALIKE, **FAST_LINK}
    # 4 workers of each node exchange every 40 ms; the first node that has made 8 exchanges calls the other
    assert 99 <= Simulation(merge_every=8, **settings).run(duration=8.02).merges <= 115
    assert Simulation(merge_every=0.5, **settings).run(duration=10.1).merges == 20
    for share in (0.05, 0.1):  # of the core, of which a round takes 2 passes of 2 ms
        found = Simulation(merge_share=share, **settings | {"exchange_time": 0.002, "stragglers": {0: 1.3}}).run(duration=20.0)
        assert found.merges == pytest.approx(20 / (0.004 / share), rel=0.02)
    slow = Simulation(merge_every=0.01, **settings | {"weights": 1_000_000, "bandwidth": 1e8}).run(duration=20.0)
    assert slow.merges == pytest.approx(20 / 0.04, rel=0.05)  # a round begins when the last has landed


@pytest.mark.parametrize("nodes", [1, 2, 3])
@pytest.mark.parametrize("pace", ["auto", 3, 0.1])
@pytest.mark.parametrize("compression", ["none", "topk:0.4", "int8"])
@pytest.mark.parametrize("loads", [{}, {0: 10.0}])
def test_every_update_reaches_every_node_once(monkeypatch, nodes, pace, compression, loads):
    settings = {"merge_every": pace, "merge_compression": compression, "stragglers": loads, "jitter": 0.3}
    plan = Simulation(rule="downpour", workers=7, nodes=nodes, window=4, **settings)
    for center in centers(monkeypatch, plan, Counting(), count_up, exchanges=20):
        np.testing.assert_allclose(center, 7 * 20 * 4, rtol=0 if compression == "none" else 1e-12)


def test_adding_the_differences_of_nodes_is_stable_only_while_they_are_small():
    """Between two merges a node's center goes from s to rho * s. Added up, m nodes make it (1 - m * (1 - rho)) * s.

    Merges so rare that each node arrives, rho = 0, turn 4 nodes to -3 s: worse each time. Averaged they stay at rho * s.
    """
    left = {}
    for rule in ("downpour", "adag", "aeasgd"):
        for scale in (1.0, 1 / 4):
            plan = Simulation(rule=rule, workers=8, nodes=4, window=5, merge_every=100, merge_scale=scale, **FAST_LINK, exchange_time=0.0)
            found = plan.run(exchanges=400, problem=Quadratic(3), step=SGD)
            left[rule, scale], merges = math.sqrt(2 * found.loss / 3), found.merges
            assert merges in (8, 9)  # and a last one, if some have exchanged meanwhile
    for rule in ("downpour", "adag", "aeasgd"):
        assert 3**6 < left[rule, 1.0] < 3.1**9
        assert left[rule, 1 / 4] < 1e-12


def test_differences_are_added_for_progress_and_averaged_for_positions():
    scales = {rule: Simulation(rule=rule, workers=4, nodes=4).scale_of_merge for rule in ("downpour", "adag", "aeasgd")}
    assert scales == {"downpour": 1, "adag": 1, "aeasgd": 1 / 4}
    assert Simulation(rule="aeasgd", workers=4, nodes=4, merge_scale=0.5).scale_of_merge == 0.5


def test_frequent_merges_of_progress_work_best_when_added():
    left = {}
    for scale in (1.0, 1 / 4):
        plan = Simulation(rule="adag", workers=8, nodes=4, window=5, merge_every=1, merge_scale=scale, **FAST_LINK, exchange_time=0.0)
        left[scale] = plan.run(exchanges=40, problem=Quadratic(3), step=SGD).loss
    assert left[1.0] < left[1 / 4] / 1000


# Synchronous methods


@pytest.mark.parametrize("method", METHODS)
def test_synchronous_workers_wait_for_the_slowest_and_for_the_link(method):
    settings = {"rule": method, "workers": 6, "nodes": 2, "lanes": 2, "weights": 1_000_000, "latency": 0.0, **ALIKE}
    found = Simulation(stragglers={2: 3.0}, **settings).run(exchanges=10)
    round_time = 3 * 0.04 + 2 * 1e-4 + 4e6 / 125e6  # 3 workers of a node on 2 lanes, 2 (m - 1) / m = 1 of the model on the link
    assert found.elapsed == pytest.approx(10 * round_time)
    assert (found.exchanges, found.merges, found.mean_staleness) == (60, 10, 0)
    assert found.utilisation == pytest.approx((5 * 0.04 + 0.12) / 6 / round_time)
    assert Simulation(**settings).run(duration=1.0).exchanges == 6 * int(1 / (round_time - 0.08))


# Arithmetic


@pytest.mark.parametrize("name", [name for name, rule in REGISTRY.items() if name == rule.name])
def test_an_exchange_is_the_rules_own(name):
    rule, random = REGISTRY[name], np.random.default_rng(0)
    training = Training(Simulation(rule=name, workers=3, window=4), Counting(), count_up, 10)
    vectors = {"c": training.centers[0], "w": training.workers[1], "p": training.previous[1]}
    vectors = {key: vectors[key] for key in rule.vectors if key in vectors} | dict(zip(rule.states, training.states[0], strict=True))
    for vector in vectors.values():
        vector[:] = random.random(vector.size)
    before = {key: vector.copy() for key, vector in vectors.items()}
    before["w"] += 4  # its steps
    told = {"window": 4, "staleness": 2, "workers": 3}
    told = rule.fill({key: value for key, value in told.items() if key in rule.scalars})
    wanted = dict(zip(("c", "w", *rule.states), rule(*[before[key] for key in rule.vectors], **told), strict=True))
    training.exchange(1, 0, 2, 3, 0.0)
    laws.assert_same_bits([vectors[key] for key in wanted], list(wanted.values()), tuple(wanted))
    if "p" in vectors:
        np.testing.assert_array_equal(vectors["p"], vectors["w"])


def test_who_has_left_is_no_worker(monkeypatch):
    plan = Simulation(rule="consgd", workers=2, stragglers={1: 3.0}, **ALIKE)
    (center,) = centers(monkeypatch, plan, Counting(), count_up, exchanges=3)
    np.testing.assert_array_equal(center, 4 * 4 / 2 + 2 * 4 / 1)  # the last two of the straggler's are those of the only one


def test_scalars_reach_the_rule():
    left = [
        Simulation(rule="aeasgd", workers=2, scalars={"alpha": alpha}).run(exchanges=5, problem=Quadratic(), step=SGD).loss
        for alpha in (0.0, 0.5)
    ]
    assert left[0] == 4.0  # 8 weights of 1: the center never moved
    assert left[1] < 0.1


def test_the_perceptrons_gradient_is_the_slope_of_its_loss():
    model, random = Perceptron((5, 4, 4, 3)), np.random.default_rng(0)
    weights = model.start(0).astype(np.float64) + 0.1 * random.standard_normal(model.size)
    x, y = random.random((6, 5)), np.arange(6) % 3
    slope = model.gradient(weights, x, y).copy()

    def loss(weights):
        return -np.log(model.outputs(weights, x)[-1][np.arange(6), y]).mean()

    each = np.eye(model.size) * 1e-6
    numeric = [(loss(weights + step) - loss(weights - step)) / 2e-6 for step in each]
    np.testing.assert_allclose(slope, numeric, atol=1e-6)


def test_nesterov_leaves_on_a_quadratic_what_the_papers_does():
    weights = np.ones(1)
    step = Nesterov(weights, 0.1, 0.9)
    for _ in range(199):
        step(weights, lambda weights: weights.copy())
    assert abs(weights[0]) < 2 * 0.9**199


def test_adam_is_kingmas():
    random, weights = np.random.default_rng(0), np.ones(3)
    step, mean, square, wanted = Adam(weights, 0.01), np.zeros(3), np.zeros(3), np.ones(3)
    for time in range(1, 6):
        slope = random.standard_normal(3)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        wanted -= 0.01 * mean / (1 - 0.9**time) / (np.sqrt(square / (1 - 0.999**time)) + 1e-7)
        step(weights, lambda weights, slope=slope: slope)
    np.testing.assert_allclose(weights, wanted, rtol=1e-5)


@pytest.mark.parametrize("name", STEPS)
def test_every_optimizer_goes_down(name):
    found = Simulation(rule="aeasgd", workers=2).run(exchanges=200, problem=Quadratic(), step=STEPS[name])
    assert found.loss < 0.1
    assert found.curve[0]["loss"] > found.curve[-1]["loss"]


def test_digits_are_divided_and_learned():
    digits, parts = Digits(2), Digits(3)
    chosen = [np.sort(np.concatenate([next(batches) for _ in range(42)])) for batches in parts.batches]
    np.testing.assert_array_equal(np.sort(np.concatenate(chosen)), np.arange(DIGITS))  # 41 batches of 32 and a smaller one
    plan = Simulation(rule="aeasgd", workers=2, nodes=2, window=5, weights=digits.size, merge_every=4)
    found = plan.run(exchanges=30, problem=digits, step=Adam)
    assert found.accuracy > 0.8
    assert 0.7 < found.settled_accuracy <= max(point["accuracy"] for point in found.curve)
    assert len(found.curve) == 20


def test_what_diverges_is_a_result():
    found = Simulation(rule="downpour", workers=8, window=5).run(exchanges=20, problem=Digits(8), step=partial(SGD, learning_rate=50.0))
    assert found.accuracy < 0.2
    assert found.to_dict()["loss"] is None or found.loss > 1


# Bad input


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"workers": 0}, "workers: a whole number of 1 or more"),
        ({"workers": 2.5}, "workers: a whole number"),
        ({"nodes": 3}, r"at most one node a worker \(2\)"),
        ({"rule": "adagg"}, "the name of a rule.*adagg.*synchronous methods averaging"),
        ({"scalars": {"beta": 1}}, "unknown: beta"),
        ({"window": 0}, "window: a whole number of 1 or more"),
        ({"step_time": 0}, "step_time: a number above 0"),
        ({"bandwidth": math.inf}, "bandwidth: a number above 0"),
        ({"jitter": -0.1}, "jitter: a number of 0 or more"),
        ({"stragglers": {2: 2.0}}, "stragglers: workers of 0 to 1"),
        ({"stragglers": {1: 0.0}}, "stragglers.*above 0"),
        ({"lanes": 0}, "lanes: a whole number"),
        ({"merge_every": 0}, "merge_every: 'auto', a whole number of exchanges, or seconds"),
        ({"merge_every": "often"}, "merge_every: 'auto'"),
        ({"merge_share": 0}, "merge_share: a share above 0"),
        ({"merge_compression": "zip"}, "a codec: none, bf16.*'zip'"),
        ({"merge_compression": "topk:2"}, "topk:FRACTION.*topk:2"),
        ({"max_staleness": -1}, "max_staleness of 0 or more"),
        ({"max_staleness": 2, "rule": "easgd"}, "no max_staleness with 'easgd'"),
        ({"seed": -1}, "seed: a whole number of 0"),
    ],
)
def test_settings_that_no_job_could_have_are_refused(settings, text):
    with pytest.raises((ValueError, TypeError), match=text):
        Simulation(**settings)


@pytest.mark.parametrize(
    ("settings", "much", "text"),
    [
        ({}, {}, "a duration of more than 0 s, or exchanges of 1 or more"),
        ({}, {"duration": 0.0}, "a duration of more than 0 s"),
        ({}, {"exchanges": -1}, "exchanges of 1 or more"),
        ({"rule": "easgd"}, {"exchanges": 1, "problem": Counting(), "step": count_up}, "a rule of an asynchronous method.*easgd"),
        ({"workers": 1001}, {"exchanges": 1, "problem": Counting(), "step": count_up}, "at most 1000 workers that train"),
        ({}, {"exchanges": 1, "problem": Counting()}, "a local optimizer"),
    ],
)
def test_runs_that_make_no_sense_are_refused(settings, much, text):
    with pytest.raises(ValueError, match=text):
        Simulation(**settings).run(**much)
