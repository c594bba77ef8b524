"""What every rank would fail at is refused on the driver, in one sentence, before anything is started."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import dkcore as dk
from dkcore.errors import DataError, ModelError
from dkcore.training import input_shapes
from dkcore.training.job import Job

X = np.random.default_rng(0).standard_normal((40, 4)).astype("float32")
Y = X[:, :1]


@pytest.fixture(autouse=True)
def no_rank(monkeypatch):
    monkeypatch.setattr(Job, "launch", lambda *_, **__: pytest.fail("ranks were started"))


@pytest.fixture
def mine(monkeypatch):
    """The module of custom layers beside the tests."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    import layers_of_mine

    return layers_of_mine


def model(*layers: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])


def train(made: keras.Model, data: tuple = (X, Y), **more) -> None:
    dk.ADAG(made, **{"worker_optimizer": "sgd", "loss": "mse", **more}).train(data)


@keras.saving.register_keras_serializable("test_dry_run")
class Nowhere(keras.layers.Layer):
    """A layer of the script itself."""

    def call(self, x):
        return x


class Unknown(keras.layers.Layer):
    """A layer that nobody registered."""

    def call(self, x):
        return x


@keras.saving.register_keras_serializable("test_dry_run")
class Forgetful(keras.layers.Layer):
    """A layer whose config lacks what its constructor needs."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def get_config(self):
        return super().get_config()

    def call(self, x):
        return x


def my_loss(y, p):
    return keras.ops.mean((y - p) ** 2)


def test_models_that_ranks_cannot_load(monkeypatch):
    monkeypatch.setattr(Nowhere, "__module__", "__main__")
    with pytest.raises(ModelError, match=r"a built Keras model"):
        train(keras.Sequential([keras.layers.Dense(1)]))
    with pytest.raises(ModelError, match=r"'Nowhere' in a module.*move it into a file of its own"):
        train(model(Nowhere()))
    with pytest.raises(ModelError, match=r"'Unknown' registered with Keras.*register_keras_serializable"):
        train(model(Unknown()))
    with pytest.raises(ModelError, match=r"a layer that Keras can save and load, in 'forgetful.*get_config"):
        train(model(Forgetful(3)), custom_modules=[__file__])
    with pytest.raises(ModelError, match=r"without Python lambdas.*safe_mode=False"):
        train(model(keras.layers.Lambda(lambda v: v)))
    with pytest.raises(ModelError, match=r"'my_loss' registered with Keras"):
        train(model(), loss=my_loss)


def test_a_model_inside_a_model_is_looked_into(monkeypatch):
    monkeypatch.setattr(Nowhere, "__module__", "__main__")
    inner = keras.Sequential([keras.Input((4,)), Nowhere()])
    with pytest.raises(ModelError, match="'Nowhere' in a module"):
        train(model(inner))


def test_data_that_do_not_fit_the_model():
    with pytest.raises(DataError, match=r"samples of shape \(4,\). Received: x of shape \(3,\)"):
        train(model(), (X[:, :3], Y))
    with pytest.raises(ModelError, match=r"fit outputs of shape \(5,\). Received: labels of shape \(3,\) with loss 'mse'"):
        train(keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)]), (X, X[:, :3]))
    with pytest.raises(ModelError, match=r"labels of shape \(\) with loss 'categorical_crossentropy'"):
        train(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), (X, Y[:, 0]), loss="categorical_crossentropy")
    with pytest.raises(DataError, match="arrays of one length"):
        train(model(), (X, Y, np.ones(3)))
    with pytest.raises(TypeError, match=r"\(x, y, sample_weight\)"):
        train(model(), (X, Y, Y, Y))


@pytest.mark.parametrize(
    ("wanted", "came", "advice"),
    [
        ((None, 4), (4,), "Add an axis: x[:, None]."),
        ((1, 4, 4), (4, 4), "Add an axis: x[:, None]."),
        ((4, 4, 3), (4, 4), "Add an axis: np.repeat(x[..., None], 3, axis=-1)."),
        ((3, 4, 4), (4, 4, 3), "Move the channels to the front: np.moveaxis(x, -1, 1)."),
        ((4, 4, 3), (3, 4, 4), "Move the channels to the end: np.moveaxis(x, 1, -1)."),
        ((16,), (4, 4), "Reshape it: x.reshape(-1, 16)."),
        ((5,), (4,), "The model says: "),
    ],
)
def test_what_to_do_about_a_shape_is_said(wanted, came, advice):
    made = keras.Sequential([keras.Input(wanted), keras.layers.Dense(1)])
    with pytest.raises(DataError) as caught:
        train(made, (np.zeros((40, *came), "float32"), Y))
    assert f"Expected samples of shape {wanted}. Received: x of shape {came}. {advice}" in str(caught.value)


class Own(keras.Model):
    """A model that declares no input."""

    def __init__(self):
        super().__init__()
        self.layer = keras.layers.Conv2D(1, 2)

    def call(self, x):
        return keras.ops.mean(self.layer(x), (1, 2))


def test_a_missing_axis_is_said_of_models_that_declare_no_input():
    made = Own()
    made(np.zeros((1, 4, 4, 1), "float32"))
    with pytest.raises(DataError, match=r"x of shape \(4, 4\)\. Add an axis: x\[\.\.\., None\]\.$"):
        input_shapes.symbolic_outputs(made, X.reshape(10, 4, 4))


def test_inputs_that_are_too_few_are_counted():
    two = keras.Model([keras.Input((4,)), other := keras.Input((4,))], keras.layers.Dense(1)(other))
    with pytest.raises(DataError, match=r"shape \(4,\), shape \(4,\). Received: x of shape \(4,\). The model has 2 inputs: pass as many"):
        train(two)


def test_shapes_that_keras_takes_are_not_refused():
    """It adds and drops a last axis of size 1, and maps names of inputs."""
    image = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(1, 2), keras.layers.Flatten(), keras.layers.Dense(1)])
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    named = keras.Model([b, a], keras.layers.Dense(1)(keras.layers.concatenate([a, b])))
    free = keras.Sequential([keras.Input((2, 8)), keras.layers.Flatten(), keras.layers.Dense(1)])
    for made, x in ((image, np.zeros((4, 4, 4))), (named, {"a": np.zeros((4, 2)), "b": np.zeros((4, 3))}), (free, np.zeros((4, 4, 4)))):
        input_shapes.check_declared(made, x)


def test_settings_that_do_not_fit_the_model():
    with pytest.raises(ModelError, match="Expected a loss. Received: none, for an output of 1 units with activation linear"):
        train(model(), loss=None)
    with pytest.raises(ModelError, match=r"loss 'no_such_loss'.*no_such_loss"):
        train(model(), loss="no_such_loss")
    with pytest.raises(ModelError, match="no_such_metric"):
        train(model(), metrics=["no_such_metric"])
    two = keras.Model(x := keras.Input((4,)), [keras.layers.Dense(1, name="a")(x), keras.layers.Dense(1, name="b")(x)])
    with pytest.raises(ModelError, match="loss"):
        train(two, (X, [Y, Y]), loss=["mse", "mse", "mse"])
    with pytest.raises(ValueError, match="initial_epoch below num_epoch"):
        dk.ADAG(model(), "sgd", "mse").train((X, Y), initial_epoch=1)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"metrics": "mae"}, TypeError, r"Pass metrics=\['mae'\]."),
        ({"weighted_metrics": "mae"}, TypeError, r"Pass weighted_metrics=\['mae'\]."),
        ({"custom_modules": "mine"}, TypeError, r"Pass custom_modules=\['mine'\]."),
        ({"custom_modules": ["no_such_file.py"]}, ModelError, "a Python file in custom_modules"),
        ({"custom_modules": [3]}, TypeError, "names or files"),
        ({"comunication_window": 3}, TypeError, "Did you mean 'communication_window'?"),
        ({"callbacks": []}, TypeError, "dkcore.Exchange"),
        ({"seed": -1}, ValueError, "seed of 0"),
        ({"seed": 1.5}, ValueError, "whole number"),
        ({"seed": 2**32}, ValueError, "seed of 0"),
        ({"class_weight": [1, 2]}, TypeError, "a dict from classes to weights"),
        ({"class_weight": {0: "x"}}, ValueError, "finite number"),
        ({"steps_per_execution": 0}, ValueError, "steps_per_execution of 1 or more"),
        ({"max_restarts": None}, ValueError, "max_restarts of 0 or more"),
        ({"batch_size": None}, ValueError, "batch_size of 1 or more"),
        ({"rule": "aeasgd", "alpha": None}, ValueError, "alpha as a finite number"),
        ({"rule": "aeasgd", "alpha": np.nan}, ValueError, "alpha as a finite number"),
    ],
)
def test_arguments_that_cannot_be_meant(given, error, message):
    with pytest.raises(error, match=message):
        dk.ADAG(model(), "sgd", "mse", **given)


def test_numbers_of_numpy_are_numbers():
    given = {"num_workers": np.int64(2), "batch_size": np.uint8(8), "num_epoch": np.int32(1), "seed": np.int64(3),
             "max_staleness": np.int16(4), "merge_every": np.int64(10), "merge_timeout": np.float32(2.0),
             "loss_weights": [np.float32(0.5)], "communication_window": np.int8(2),
             "class_weight": {np.int64(0): np.float64(2.0)}, "steps_per_execution": np.int64(1), "max_restarts": np.int64(0)}  # fmt: skip
    job = dk.ADAG(model(), "sgd", "mse", rule="aeasgd", alpha=np.float32(0.5), **given).job
    assert (job.scalars, job.class_weight, job.workers, job.loss_weights) == ({"alpha": 0.5}, {0: 2.0}, 2, [0.5])
    assert {type(value) for value in (job.workers, job.batch_size, job.epochs, job.seed, job.window, job.merge_every)} == {int}


def test_modules_of_custom_layers_are_found(mine, tmp_path, monkeypatch):
    trainer = dk.ADAG(model(mine.Twice()), "sgd", "mse")
    trainer.prepare(True, 0, {"x_train": X, "y_train": Y})
    assert trainer.job.modules == [str(Path(mine.__file__).resolve())]
    (tmp_path / "here.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert dk.ADAG(model(), "sgd", "mse", custom_modules=["here.py"]).job.modules == [str(tmp_path / "here.py")]


def test_a_model_that_fails_by_itself_is_said_to(mine, monkeypatch):
    monkeypatch.setattr(mine.Twice, "call", lambda self, x: 1 / 0)
    layer = mine.Twice()
    layer.compute_output_spec = lambda x, **_: keras.KerasTensor(x.shape)
    made = model(layer)
    with pytest.raises(ModelError, match="a model that can be called. Received: ZeroDivisionError"):
        train(made)


def test_the_user_s_model_stays_as_it_is(mine):
    made = model(mine.Twice())
    made.compile(keras.optimizers.SGD(0.5), "mae", metrics=["mse"])
    before, layers = made.get_compile_config(), [len(layer._inbound_nodes) for layer in made.layers]
    trainer = dk.ADAG(made, "adam", "mse")
    trainer.prepare(True, 0, {"x_train": X, "y_train": Y})
    assert made.get_compile_config() == before
    assert not made.optimizer.built
    assert [len(layer._inbound_nodes) for layer in made.layers] == layers
    assert "test_dry_run>Nowhere" in keras.saving.get_custom_objects()
    assert sys.modules["layers_of_mine"] is mine
