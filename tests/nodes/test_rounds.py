"""The same four workers on one node, on two and on four: rounds of synchronous methods, and whole jobs, come to the same."""

import functools
import json
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
from mpi_ranks import KINDS, mpirun
from rounds_rank import SIZE, moved, start

import dkcore as dk
from dkcore.training.job import Job

RANK = str(Path(__file__).with_name("rounds_rank.py"))
RANKS = 4
SHAPES = {"1 x 4": 4, "2 x 2": 2, "4 x 1": 1}  # nodes x ranks: how many of the four ranks share a node
CASES = {
    "averaging": "averaging 12",
    "averaging-unequal": "averaging 4 more=3",
    "averaging-three-trainings": "averaging 4 phases=3 more=1",
    "averaging-late-leaders": "averaging 4 phases=2 linger=0.3",
    "averaging-joined": "averaging 4 phases=3 joined=1",
    "averaging-idle": "averaging 4 idle=0",
    "easgd": "easgd 12 alpha=0.2",
    "easgd-unequal": "easgd 4 more=3 alpha=0.2",
    "diloco": "diloco 12",
    "diloco-unequal": "diloco 4 more=3 lr=0.5 momentum=0.8",
    "slowmo": "slowmo 12",
    "slowmo-tuned": "slowmo 12 lr=0.9 momentum=0.5",
    "halved": "halved 12",
}
SQUEEZED = {"int8": "averaging 120 merge_compression=int8", "fp16": "averaging 120 merge_compression=fp16"}
WORDS = " + ".join(f"{case} name={name}" for name, case in (CASES | SQUEEZED).items()).split()


@pytest.fixture(scope="module")
def jobs(four_nodes, tmp_path_factory):
    """``jobs(kind, shape)``: what the four ranks told of `CASES` and `SQUEEZED`; each job runs once."""
    ended = {}

    def job(kind: str, shape: str) -> dict[str, list[dict]]:
        if (kind, shape) not in ended:
            out = tmp_path_factory.mktemp("rounds")
            done = four_nodes.run(kind, RANK, str(out), *WORDS, ranks_per_node=SHAPES[shape], ranks=RANKS)
            assert done.returncode == 0, done.stderr
            assert four_nodes.gone() < 2
            told = [list(map(json.loads, (out / f"told-{rank}").read_text().splitlines())) for rank in range(RANKS)]
            ended[kind, shape] = {each[0]["name"]: each for each in zip(*told, strict=True)}
        return ended[kind, shape]

    return job


# ---------------------------------------------------------------------- what the papers say, one worker after another


def averaging(c, x, state, options):
    """Moritz et al. 2015: all go on from the mean of all."""
    mean = np.mean(x, axis=0)
    return mean, [mean] * len(x), state


def easgd(c, x, state, options):
    """Zhang et al. 2015, equations 4 and 5, with beta = p alpha: both sides move by what they were before."""
    beta, alpha = len(x) * options["alpha"], options["alpha"]
    return (1 - beta) * c + beta * np.mean(x, axis=0), [one - alpha * (one - c) for one in x], state


def diloco(c, x, velocity, options):
    """Douillard et al. 2023, algorithm 1: the outer gradient is what the mean lacks; its optimizer is SGD, Nesterov's."""
    lr, momentum = options.get("lr", 0.7), options.get("momentum", 0.9)
    gradient = c - np.mean(x, axis=0)
    velocity = momentum * velocity + gradient
    c = c - lr * (gradient + momentum * velocity)
    return c, [c] * len(x), velocity


def slowmo(c, x, velocity, options):
    """Wang et al. 2020, algorithm 1, its velocity multiplied by the constant learning rate of the workers."""
    lr, momentum = options.get("lr", 1.0), options.get("momentum", 0.7)
    velocity = momentum * velocity + (c - np.mean(x, axis=0))
    c = c - lr * velocity
    return c, [c] * len(x), velocity


def halved(c, x, state, options):
    """As rounds_rank.py has it."""
    c = (c + np.mean(x, axis=0)) / 2
    return c, [c] * len(x), state


PAPERS = {function.__name__: function for function in (averaging, easgd, diloco, slowmo, halved)}


def by_hand(case: str) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Center and weights of the workers in the end, and the centers of the first rounds."""
    method, rounds, *options = case.split()
    given = {name: float(value) for name, value in (option.split("=") for option in options)}
    c, state, first = start(), np.zeros(SIZE), []
    for _ in range(int(given.get("phases", 1))):
        w = [c] * RANKS
        for turn in range(int(rounds) + int(given.get("more", 0)) * (RANKS - 1)):
            here = [rank for rank in range(RANKS) if rank != given.get("idle") and turn < int(rounds) + given.get("more", 0) * rank]
            c, after, state = PAPERS[method](c, [moved(w[rank], rank) for rank in here], state, given)
            first.append(c)
            for rank, one in zip(here, after, strict=True):
                w[rank] = one
    return c, w, first


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_a_method_does_what_its_paper_says_on_any_nodes(jobs, case, shape):
    center, workers, first = by_hand(CASES[case])
    for rank, told in enumerate(jobs("mpich", shape)[case]):
        assert told["nodes"] == RANKS // SHAPES[shape]
        for seen, wanted in zip(told["first"], first, strict=False):
            np.testing.assert_allclose(seen, wanted, rtol=0, atol=1e-13)  # each round, not only where all of them lead
        np.testing.assert_allclose(told["center"], center, rtol=0, atol=1e-12)
        np.testing.assert_allclose(told["worker"], workers[rank], rtol=0, atol=1e-12)
        assert told["center"] == jobs("mpich", shape)[case][0]["center"]  # to the last bit
        assert told["handed in"] == 0


@pytest.mark.parametrize("case", CASES)
def test_the_mpi_does_not_matter(jobs, case):
    one, two = (jobs(kind, "2 x 2")[case][0]["center"] for kind in KINDS)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", ["2 x 2", "4 x 1"])
@pytest.mark.parametrize(("case", "ratio"), [("int8", 0.13), ("fp16", 0.25)])
def test_compressed_rounds_lead_to_the_same_point(jobs, case, ratio, shape):
    """Towards the mean of the workers' own points. What a round holds back is handed in with the next."""
    wanted = np.mean([np.sin(np.arange(SIZE) * (rank + 1)) for rank in range(RANKS)], axis=0)
    for told in jobs("mpich", shape)[case]:
        assert told["center"] == jobs("mpich", shape)[case][0]["center"]
        np.testing.assert_allclose(told["center"], wanted, rtol=0, atol=0.01)
    sums = jobs("mpich", shape)[case][0]["merge"]
    assert sums["bytes_sent"] / sums["bytes_plain"] == pytest.approx(ratio, rel=0.1)


# ---------------------------------------------------------------------- a whole job


def job_of(directory: Path, **settings) -> None:
    """A job of four workers on two classes that a line divides."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")])
    x = np.random.default_rng(0).standard_normal((480, 4)).astype("float32")
    data = {"x_train": x, "y_train": (x.sum(1) > 0).astype("int32")}
    settings = {"rule": "averaging", "window": 4, "workers": RANKS, "epochs": 4, "batch_size": 8, "shuffle": False, **settings}
    Job(backend="jax", optimizer="sgd", learning_rate=0.1, loss="sparse_categorical_crossentropy", **settings).save(directory, data)
    model.save(directory / "model.keras")


def trained(directory: Path, run, **settings) -> tuple[keras.Model, list[dict]]:
    """The model that a job leaves, and what its ranks did. run: starts a command of four ranks."""
    job_of(directory, **settings)
    done = run(sys.executable, "-m", "dkcore.worker", str(directory))
    assert done.returncode == 0, done.stderr + "".join(log.read_text() for log in directory.glob("logs/*"))
    model = keras.saving.load_model(directory / "trained.keras")
    return model, [json.loads((directory / f"rank-{rank}.json").read_text()) for rank in range(RANKS)]


def loss_of(model: keras.Model) -> float:
    x = np.random.default_rng(1).standard_normal((1000, 4)).astype("float32")
    model.compile(loss="sparse_categorical_crossentropy")
    return model.evaluate(x, (x.sum(1) > 0).astype("int32"), verbose=0, return_dict=True)["loss"]


def test_a_job_comes_to_the_same_weights_however_it_is_launched(four_nodes, tmp_path):
    def on_nodes(ranks_per_node: int):
        return functools.partial(four_nodes.run, "mpich", ranks_per_node=ranks_per_node, ranks=RANKS)

    ways = {"mpirun": functools.partial(mpirun, "mpich", ranks=RANKS, timeout=60), "2 x 2": on_nodes(2), "4 x 1": on_nodes(1)}
    models = {}
    for way, run in ways.items():
        models[way], sums = trained(tmp_path / way, run)
        assert {each["nodes"] for each in sums} == {1 if way == "mpirun" else int(way[0])}
        assert all(each["exchanges"] == 16 and each["staleness_sum"] == 0 for each in sums)  # 15 steps an epoch: 4 rounds
    for model in models.values():
        for one, two in zip(model.get_weights(), models["mpirun"].get_weights(), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    plain, (squeezed, _) = loss_of(models["2 x 2"]), trained(tmp_path / "int8", on_nodes(2), merge_compression="int8")
    assert plain < 0.4
    assert loss_of(squeezed) == pytest.approx(plain, rel=0.03)


# ---------------------------------------------------------------------- what cannot be meant


def center_for(method) -> types.SimpleNamespace:
    """A center as `Center.of` makes it for a method, as far as Exchange asks."""
    return types.SimpleNamespace(membership=types.SimpleNamespace(synchronous=method))


@pytest.mark.parametrize(
    ("made", "used", "options", "message"),
    [
        ("easgd", "averaging", {}, "Expected a center made for 'averaging'. Received: one for 'easgd'."),
        ("easgd", "aeasgd", {}, "Expected a center made for 'aeasgd'. Received: one for 'easgd'."),
        ("averaging", "averaging", {"max_staleness": 3}, "Expected no max_staleness with 'averaging'. Received: 3."),
    ],
)
def test_a_method_that_cannot_be_meant_is_refused(made, used, options, message):
    with pytest.raises((dk.errors.RuleError, ValueError)) as refused:
        dk.Exchange(center_for(made and getattr(dk.rules, made)), getattr(dk.rules, used), **options)
    assert message in str(refused.value)
