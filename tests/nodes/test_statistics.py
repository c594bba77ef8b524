"""Statistics, as batch norm's moving mean and variance, are positions: whatever the rule, they stay within what workers had."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import laws
import numpy as np
import pytest

import dkcore as dk
from dkcore.engine.merge_formulas import FORMULAS
from dkcore.rules import METHODS

RANK = str(Path(__file__).with_name("statistics_rank.py"))
EACH_DTYPE = pytest.mark.parametrize("dtype", laws.DTYPES)
EXCHANGES = 12


@dk.rule
def overshooting(c, w, p, v):
    """A rule of one's own, which numba compiles: far beyond all workers."""
    v = 2 * v + (w - p)
    return c + 9 * v, c + 9 * v, v


def numbers(dtype: str, size: int, generator: np.random.Generator) -> np.ndarray:
    """Finite ones of all magnitudes, and often the same: subnormal, huge, zeros of both signs."""
    info = np.finfo(dtype)
    special = [0.0, -0.0, info.smallest_subnormal, -info.tiny, info.max, -info.max, 1.0, 1.0 + info.eps, 0.1]
    drawn = generator.normal(size=size) * 10.0 ** generator.integers(-6, 6, size)
    return np.where(generator.random(size) < 0.5, generator.choice(special, size), drawn).astype(dtype)


# ---------------------------------------------------------------------- the formulas


@EACH_DTYPE
@pytest.mark.parametrize("name", ["statistic", "statistic_handed", "statistic_mean", "statistic_absorb"])
def test_a_formula_of_statistics_stays_between_and_keeps_what_is_equal(name, dtype):
    formula, generator = FORMULAS[name], np.random.default_rng(0)
    bounds = {"statistic": ("c", "w"), "statistic_handed": ("m", "w"), "statistic_mean": ("t", "q"), "statistic_absorb": ("c", "t")}[name]
    for scalar in (1, 2, 3, 7, 8, 1000) if name != "statistic_mean" else (1.0, 0.5, 1 / 3, 0.1):
        vectors = {vector: numbers(dtype, 20_000, generator) for vector in formula.vectors}
        with np.errstate(all="ignore"):
            after = formula(*vectors.values(), **dict.fromkeys(formula.scalars, scalar))[0]
        low, high = (choose(*(vectors[bound] for bound in bounds)) for choose in (np.minimum, np.maximum))
        if name == "statistic_handed" and scalar == 1:
            low = high = vectors["w"]
        assert ((low <= after) & (after <= high)).all()
        same = numbers(dtype, 1000, generator)
        after = formula(*(same for _ in formula.vectors), **dict.fromkeys(formula.scalars, scalar))[0]
        laws.assert_same_bits([after], [same], ("statistic",))


# ---------------------------------------------------------------------- one node


def center_of(rule, values: np.ndarray, statistics: int) -> dk.Center:
    return dk.Center.create(values, states=len(rule.states), stripe_bytes=64, statistics=statistics)


@EACH_DTYPE
@pytest.mark.parametrize("rule", [*laws.RULES, overshooting], ids=lambda rule: rule.name)
@pytest.mark.parametrize("workers", [1, 2, 5, 8])
def test_a_statistic_stays_within_what_workers_had(rule, workers, dtype):
    """Whatever order they come in, and whether or not the others are still there. What follows the rule is as without statistics."""
    generator, ruled, statistics = np.random.default_rng(workers), 37, 101
    first = np.concatenate([generator.normal(size=ruled).astype(dtype), numbers(dtype, statistics, generator)])
    first[-1] = 0.1
    low, high = first[ruled:].copy(), first[ruled:].copy()
    scalars = {name: value for name, value in laws.scalars_of(rule).items() if name not in ("staleness", "workers")}
    with center_of(rule, first, statistics) as center, center_of(rule, first[:ruled], 0) as plain:
        slots = [(center.worker(), plain.worker()) for _ in range(workers)]
        calls = [[slot.call(rule, **scalars) for slot in pair] for pair in slots]
        held = [(first.copy(), first[:ruled].copy()) for _ in slots]
        for pair, calls_of, weights in zip(slots, calls, held, strict=True):
            for slot, call, w in zip(pair, calls_of, weights, strict=True):
                slot.pull_call(call.p).flat(w)
        for turn in range(60):
            index = generator.integers(workers if turn < 40 else 1)  # in the end one is alone
            if turn == 40:
                [slot.release() for pair in slots[1:] for slot in pair]
            w, alone = held[index]
            step = 0.01 * generator.normal(size=ruled).astype(dtype)
            w[:ruled] += step
            alone += step
            w[ruled:] = numbers(dtype, statistics, generator)
            w[-1] = 0.1
            before = w.copy()
            low, high = np.minimum(low, w[ruled:]), np.maximum(high, w[ruled:])
            sizes = np.uint64([5, ruled, 0, len(w) - ruled - 5])  # the second one has both
            places = np.uint64(w.ctypes.data + np.cumsum([0, *sizes[:-1]]) * w.itemsize)
            with np.errstate(all="ignore"):
                calls[index][0].segments(places, sizes)
                calls[index][1].flat(alone)
            now = center.snapshot()
            assert ((low <= now[ruled:]) & (now[ruled:] <= high)).all()
            assert now[-1] == np.dtype(dtype).type(0.1)
            if rule.name in ("single", "independent"):
                laws.assert_same_bits([w, now], [before, before], ("w", "c"))
            else:
                laws.assert_same_bits([w[ruled:]], [now[ruled:]], ("w",))
            laws.assert_same_bits([now[:ruled], w[:ruled]], [plain.snapshot(), alone], ("c", "w"))
        assert not any(center.snapshot(state=k + 1)[ruled:].any() for k in range(center.states))


@EACH_DTYPE
@pytest.mark.parametrize("rule", [rule for rule in laws.RULES if "p" in rule.vectors], ids=lambda rule: rule.name)
def test_the_engine_averages_statistics_as_the_formula_does(rule, dtype):
    size = 1003
    vectors = dict(zip(rule.vectors, laws.vectors_of(rule, dtype, size), strict=True))
    with center_of(rule, vectors["c"], size) as center:
        before = [vectors["c"], vectors["w"].copy(), vectors["p"].copy()]
        wanted = laws.reference(FORMULAS["statistic"], before, {"workers": 1.0})
        scalars = {k: v for k, v in laws.scalars_of(rule).items() if k not in ("staleness", "workers")}
        center.exchange(rule, vectors["w"], vectors["p"], **scalars)
        laws.assert_same_bits([center.snapshot(), vectors["w"], vectors["p"]], wanted, ("c", "w", "p"))


@pytest.mark.parametrize("rule", [rule for rule in laws.RULES if not rule.copies], ids=lambda rule: rule.name)
def test_a_worker_that_is_alone_has_its_own_statistics(rule):
    """As plain training has them, bit for bit."""
    first = np.linspace(0.1, 3, 50)
    with center_of(rule, first, 50) as center, center.worker() as worker:
        call = worker.call(rule, **{name: 0.5 for name in rule.scalars if name not in ("window", "staleness", "workers")})
        w = np.zeros(50)
        worker.pull_call(call.p).flat(w)
        for turn in range(20):
            wanted = w = w * 0.97 + 0.03 * np.sin(turn + np.arange(50))
            call.flat(w.copy())
            np.testing.assert_array_equal(center.snapshot(), wanted)


@pytest.mark.parametrize("workers", [2, 5, 8])
@pytest.mark.parametrize("rule", [dk.rules.downpour, dk.rules.aeasgd], ids=lambda rule: rule.name)
def test_every_worker_counts_once(rule, workers):
    """Workers of one pace that see different data: the center is at their mean, as fast as one worker alone would be."""
    goals, rounds, rate = np.arange(workers) * 1.0, 200, 0.05
    with center_of(rule, np.full(8, 100.0), 8) as center:
        slots, held = [center.worker() for _ in range(workers)], [np.zeros(8) for _ in range(workers)]
        calls = [slot.call(rule, **({"alpha": 0.5} if rule is dk.rules.aeasgd else {})) for slot in slots]
        for slot, call, w in zip(slots, calls, held, strict=True):
            slot.pull_call(call.p).flat(w)
        for _ in range(rounds):
            for goal, call, w in zip(goals, calls, held, strict=True):
                w += rate * (goal - w)
                call.flat(w)
        left = (1 - rate) ** rounds * 100
        assert abs(center.snapshot() - goals.mean()).max() < 3 * left + workers * rate


def test_statistics_of_threads_that_exchange_at_once():
    size, first = 40_000, np.linspace(-1, 1, 40_000)
    with dk.Center.create(first, statistics=size, stripe_bytes=1024) as center:

        def work(seed: int) -> None:
            generator = np.random.default_rng(seed)
            with center.worker() as worker:
                call, w = worker.call(dk.rules.downpour), first.copy()
                worker.pull_call(call.p).flat(w)
                for _ in range(100):
                    w[:] = generator.uniform(-1, 1)
                    call.flat(w)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert abs(center.snapshot()).max() <= 1


def test_a_center_says_how_many_are_statistics_and_refuses_others():
    with dk.Center.create(np.zeros(10), statistics=4) as center:
        assert center.statistics == 4
        dk.Center.attach(center.name, statistics=4).close()
        dk.Center.attach(center.name).close()
        with pytest.raises(dk.errors.LayoutError, match="the last 4 elements are statistics; on this side the last 3"):
            dk.Center.attach(center.name, statistics=3)
    with pytest.raises(ValueError, match="statistics 11"):
        dk.Center.create(np.zeros(10), statistics=11)


# ---------------------------------------------------------------------- several nodes, and rounds

CODECS = ("none", "bf16", "fp16", "int8", "topk:0.01")
ROUNDS = [("float32", "none"), ("float64", "topk:0.01")]
CASES = [f"{rule.name} dtype={laws.DTYPES[k % 2]} merge_every=1 merge_compression={CODECS[k % 5]}" for k, rule in enumerate(laws.RULES)]
CASES += [f"{name} dtype={dtype} merge_compression={codec}" for name in METHODS for dtype, codec in ROUNDS]


@pytest.mark.parametrize(("nodes", "ranks"), [(2, 2), (3, 1)])
def test_nodes_keep_statistics_within_what_workers_had(nodes, ranks, two_nodes, three_nodes, tmp_path):
    """The law over the registry and the methods, over real merges, with codecs: and all centers are equal in the end."""
    network = two_nodes if nodes == 2 else three_nodes
    words = " + ".join(CASES).split()
    done = network.run("mpich", RANK, str(tmp_path), str(EXCHANGES), *words, ranks_per_node=ranks, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [[json.loads(line) for line in (tmp_path / f"told-{rank}").read_text().splitlines()] for rank in range(nodes * ranks)]
    assert all(len(each) == len(CASES) for each in told)
    for case in zip(*told, strict=True):
        for each in case:
            assert each["nodes"] == nodes
            assert each["within"] and each["fixed"] and each["equal"] and each["means"] and each["moved"], each
            assert each["states"] == 0, each
            if each["name"] in METHODS:
                continue
            assert each["versions"] == [nodes * ranks * EXCHANGES], each
            assert each["name"] != "downpour" or each["center"] == [nodes * ranks * EXCHANGES]


# ---------------------------------------------------------------------- Keras

TRAIN = """
import numpy as np, keras, dkcore as dk
r = np.random.default_rng(0)
x = 0.1 * r.normal(size=(6000, 4)).astype("float32")
y = x.sum(1, keepdims=True)
for kind, window in ((dk.DiLoCo, 20), (dk.DOWNPOUR, 100)):
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(momentum=0.9), keras.layers.Dense(1)])
    trainer = kind(model, "adam", "mse", metrics=[], num_workers=2, communication_window=window)
    layer = trainer.train((x, y)).layers[0]
    print("variance", *np.asarray(layer.moving_variance.value), flush=True)
"""


def test_batch_norm_trains_under_outer_momentum_and_sums(tmp_path):
    """The moving variance goes from 1 to what it is of the data, and not beyond."""
    (tmp_path / "train.py").write_text(TRAIN)
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    variances = np.array([line.split()[1:] for line in done.stdout.splitlines() if line.startswith("variance")], float)
    assert variances.shape == (2, 4)
    assert ((variances > 0.005) & (variances < 0.02)).all(), variances
