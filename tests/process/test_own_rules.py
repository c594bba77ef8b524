"""A user's rule stays the user's: its own defaults and name in every trainer, and rules and states by name wherever they are asked for."""

import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import dkcore as dk
from dkcore.cli import main
from dkcore.engine.compile import compile_kernel
from dkcore.errors import RuleError
from dkcore.formula.rule import ENGINE_SCALARS
from dkcore.registry import KNOWN, plain_rule, rule_of
from dkcore.simulation import Simulation
from dkcore.trainers import TRAINERS, Trainer
from dkcore.training.job import Job

OTHERS = sorted(set(TRAINERS) - {"EnsembleTrainer", "AGN"})


@dk.rule
def mine(c, w, *, alpha=0.3, beta=0.2, lr=0.1, momentum=0.5, rho=0.75):
    """Every scalar that some trainer has a default for, and another default."""
    e = alpha * beta * lr * momentum * rho * (w - c)
    return c + e, w - e


@dk.rule
def counted(c, w, *, window, staleness, workers):
    """All that the engine fills in."""
    return c + window + staleness + workers + w * 0, w + c * 0


@dk.synchronous
def by_halves(c, t, *, workers, lr=0.125):
    """The center goes a part of the way to the mean."""
    return (c + lr * t / workers,)


def model() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


@pytest.mark.parametrize("name", [*OTHERS, "Trainer"])
def test_it_keeps_its_defaults_and_its_name_in_every_trainer(name):
    kind = getattr(dk.trainers, name)
    for rule in (mine, mine.to_dict(), by_halves):
        job = kind(model(), loss="mse", rule=rule).job
        own = rule_of(rule)
        assert (job.trainer, job.the_rule.name, job.scalars) == (own.name, own.name, {})
        filled = job.the_rule.fill(job.scalars, ENGINE_SCALARS)
        assert {scalar: value for scalar, value in filled.items() if scalar != "workers"} == own.defaults
    assert kind(model(), loss="mse", rule=mine, alpha=0.9).job.scalars == {"alpha": 0.9}


def test_scalars_of_trainers_are_not_those_of_a_rule():
    @dk.rule
    def bare(c, w):
        return c, c

    for kind, option in ((dk.AEASGD, "rho"), (dk.AEASGD, "alpha"), (dk.EASGD, "beta"), (dk.EASGD, "alpha"), (dk.DiLoCo, "lr")):
        kind(model(), loss="mse", rule=bare)
        with pytest.raises(TypeError, match=f"a scalar of rule 'bare'.*unknown: {option}"):
            kind(model(), loss="mse", rule=bare, **{option: 0.5})
    assert dk.Experimental(model(), loss="mse", rule=bare, learning_rate=0.5).job.learning_rate == 0.5
    with pytest.raises(ValueError, match=r"no rule for an ensemble.*Use Trainer\(model, rule=...\)."):
        dk.EnsembleTrainer(model(), loss="mse", rule=bare)


def test_a_scalar_called_learning_rate_is_the_rules():
    @dk.rule
    def slow(c, w, *, learning_rate=0.5):
        return c + learning_rate * (w - c), w

    for kind in (Trainer, dk.AEASGD, dk.ADAG):
        job = kind(model(), loss="mse", rule=slow, learning_rate=0.25).job
        assert (job.scalars, job.learning_rate) == ({"learning_rate": 0.25}, None)


@pytest.mark.parametrize("name", ["single", "independent"])
def test_a_rule_of_a_users_is_not_the_built_in_one_of_its_name(name):
    def formula(c, w):
        return c + 0.5 * (w - c), w

    formula.__name__ = name
    for rule in (dk.rule(formula), dk.rule(formula).to_dict()):
        job = Job(rule=rule, workers=2, on_node_loss="shrink")
        assert not job.apart and json.loads(json.dumps(job.rule))["name"] == name
    assert Job(rule=dk.rules.REGISTRY[name], workers=1).rule == name
    with pytest.raises(ValueError, match="1 worker|on_node_loss"):
        Job(rule=name, workers=2, on_node_loss="shrink")


@pytest.mark.parametrize("rule", KNOWN.values(), ids=KNOWN)
def test_rules_travel_by_name_and_others_whole(rule):
    assert rule_of(rule) is rule and rule_of(rule.name) is rule
    assert plain_rule(rule) == plain_rule(json.loads(json.dumps(rule.to_dict()))) == rule.name
    assert plain_rule(mine)["name"] == "mine"


# ---------------------------------------------------------------------- what the engine fills in


@pytest.mark.parametrize("scalar", ENGINE_SCALARS)
def test_what_the_engine_fills_in_is_refused(scalar):
    given, message = {scalar: 3}, rf"no scalar that the engine fills in \(.*\). Received: {scalar}. Leave it out"
    uses = [lambda: Trainer(model(), loss="mse", rule=counted, **given), lambda: Job(rule=counted.to_dict(), scalars=given),
            lambda: Simulation(rule=counted, scalars=given), lambda: Simulation(rule="averaging", scalars=given)]  # fmt: skip
    with dk.Center.create(np.zeros(4)) as center, center.worker() as worker:
        if scalar != "window":  # there the caller's own
            uses += [lambda: dk.Exchange(center, counted, **given), lambda: worker.call(counted, **given),
                     lambda: center.exchange(counted, np.zeros(4), window=1, **given)]  # fmt: skip
        for use in uses:
            with pytest.raises(RuleError, match=message):
                use()
        if scalar != "window":
            with pytest.raises(RuleError, match=f"a scalar that is given. Received: {scalar}. The engine counts it"):
                worker.call(counted).set(scalar, 3)
        assert center.versions.sum() == 0


def test_the_window_is_the_callers_in_flat_exchanges():
    with dk.Center.create(np.zeros(1)) as center, center.worker() as worker:
        center.exchange(counted, np.zeros(1), window=5)
        assert center.snapshot()[0] == 5 + 0 + 2  # two workers have a slot: the center's own, and this one
        worker.call(counted, window=7).flat(np.zeros(1))
        assert center.snapshot()[0] == 7 + 7 + 1 + 2


@pytest.mark.parametrize("command", ["train --model model.keras --data none.npz --trainer dynsgd", "simulate --rule dynsgd"])
def test_the_command_line_refuses_it_too(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model().save("model.keras")
    np.savez("none.npz", x_train=np.zeros((8, 4)), y_train=np.zeros(8, int))
    done = CliRunner().invoke(main, [*command.split(), "--scalar", "staleness=3"])
    assert done.exit_code == 1 and "Received: staleness." in " ".join(done.output.split()), done.output


# ---------------------------------------------------------------------- by name


@pytest.mark.parametrize("use", ["exchange", "call", "kernel", "create", "attach", "Exchange", "Trainer", "Job", "Simulation"])
def test_a_name_is_as_good_as_a_rule(use):
    with dk.Center.create(np.zeros(3), states=1) as center, center.worker() as worker:
        uses = {
            "exchange": lambda rule: center.exchange(rule, np.ones(3), np.zeros(3)),
            "call": worker.call,
            "kernel": lambda rule: compile_kernel(rule, "float32"),
            "create": lambda rule: dk.Center.create(np.zeros(3), rule=rule).close(),
            "attach": lambda rule: dk.Center.attach(center.name, rule=rule).close(),
            "Exchange": lambda rule: dk.Exchange(center, rule),
            "Trainer": lambda rule: Trainer(model(), loss="mse", rule=rule),
            "Job": lambda rule: Job(rule=rule),
            "Simulation": lambda rule: Simulation(rule=rule),
        }
        uses[use]("adagrad")
        with pytest.raises((RuleError, ValueError), match="Received: 'adagrid'. Did you mean 'adagrad'?"):
            uses[use]("adagrid")


def test_states_are_read_and_written_by_name():
    values = np.arange(3.0)
    with dk.Center.create(values, rule="adagrad") as center, dk.Center.attach(center.name, rule=dk.rules.adagrad) as other:
        assert center.states == 1
        center.exchange("adagrad", values + 2, values.copy())
        for each in (center, other):
            np.testing.assert_array_equal(each.snapshot(state="squares"), [4, 4, 4])
            np.testing.assert_array_equal(each.snapshot(state="squares"), each.snapshot(state=1))
            np.testing.assert_array_equal(each.snapshot(state="c"), each.snapshot())
        center.restore(values, state="squares")
        np.testing.assert_array_equal(other.snapshot(state=1), values)
        for use in (lambda: center.snapshot(state="square"), lambda: center.restore(values, state="square")):
            with pytest.raises(RuleError, match=r"a state of 'adagrad' \(squares\). Received: 'square'. Did you mean 'squares'?"):
                use()


def test_a_center_without_a_rule_says_how_it_learns_names():
    with dk.Center.create(np.zeros(3), states=1) as center:
        with pytest.raises(RuleError, match="a center that knows its rule, to find state 'squares'. Received: one made without a rule"):
            center.snapshot(state="squares")
        with pytest.raises(RuleError, match="Expected 1 states for rule 'adagrad'. Received: 0."):
            dk.Center.create(np.zeros(3), rule="adagrad", states=0)
    with dk.Center.create(np.zeros(3), rule="diloco") as center:
        assert [center.snapshot(state=name).sum() for name in ("m", "v")] == [0, 0]


def test_a_callback_by_name_trains_as_by_rule():
    x, y = np.random.default_rng(0).normal(size=(2, 64, 4)).astype("float32")
    found = []
    for rule in ("adag", dk.rules.adag):
        keras.utils.set_random_seed(0)
        built = model()
        built.compile("sgd", "mse")
        with dk.Center.create(dk.Replica(built).read()) as center:
            built.fit(x, y[:, :2], verbose=0, shuffle=False, callbacks=[dk.Exchange(center, rule, window=1)])
            found.append(center.snapshot())
    np.testing.assert_array_equal(*found)
