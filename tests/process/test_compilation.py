"""Each argument of ``compile`` is the job's where it is given there, else the model's own, else the default: from every front."""

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import dkcore as dk
from dkcore import cli
from dkcore.data.shard import Shard
from dkcore.errors import ModelError
from dkcore.training.build import build
from dkcore.training.compilation import compile_model, guess_loss, restore_user_steps
from dkcore.training.job import Job

X = np.random.default_rng(0).standard_normal((40, 4)).astype("float32")
Y = (X.sum(1) > 0).astype("int64")
EAGER = "run_eagerly"
# For each item: the model's own, what the job gives, and how the compiled model shows it.
ITEMS = {
    "optimizer": (keras.optimizers.SGD(0.123), "rmsprop", lambda model: type(model.optimizer).__name__, "SGD", "RMSprop", "Adam"),
    "loss": ("categorical_hinge", "poisson", lambda model: model.loss, "categorical_hinge", "poisson", "sparse_categorical_crossentropy"),
    "metrics": (["mae"], ["mse"], lambda model: model.get_compile_config()["metrics"], ["mae"], ["mse"], ["accuracy"]),
    "weighted_metrics": (["mae"], ["mse"], lambda model: model.get_compile_config()["weighted_metrics"], ["mae"], ["mse"], None),
    "loss_weights": ([0.5], [0.25], lambda model: model.get_compile_config()["loss_weights"], [0.5], [0.25], None),
    EAGER: (True, False, lambda model: model.run_eagerly, True, False, False),
    "jit_compile": (False, True, lambda model: model.get_compile_config()["jit_compile"], False, True, None),
    "steps_per_execution": (2, 3, lambda model: model.steps_per_execution, 2, 3, 1),
}
OPTIONS = {"optimizer": "--optimizer", "loss": "--loss", "metrics": "--metric", "weighted_metrics": "--weighted-metric",
           "loss_weights": "--loss-weight", EAGER: "--no-run-eagerly", "jit_compile": "--jit-compile",
           "steps_per_execution": "--steps-per-execution"}  # fmt: skip


def model(item: str | None = None) -> keras.Model:
    """One that was compiled with an own value of that item; or never."""
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    if item:
        others = {"loss": "sparse_categorical_crossentropy", "jit_compile": False}
        made.compile(**{**others, item: ITEMS[item][0]})
    return made


class Ended(Exception):
    """Instead of ranks."""


@pytest.fixture
def in_rank(monkeypatch):
    """``in_rank(start)``: what a rank of the job that ``start()`` launches would compile, and would save after training."""

    def of(start) -> tuple[keras.Model, keras.Model]:
        found = []

        def launch(job: Job, **_options) -> None:
            loaded = Job.load(job.directory)
            made = build(loaded)
            chosen = compile_model(loaded, made, Shard({"x_train": X, "y_train": Y}))
            found.append((made.get_compile_config(), made))
            restore_user_steps(made, chosen)
            raise Ended

        monkeypatch.setattr(Job, "launch", launch)
        with pytest.raises(Ended):
            start()
        return found[0][1]

    return of


def by_trainer(made: keras.Model, tmp_path, **given):
    renamed = {"worker_optimizer" if name == "optimizer" else name: value for name, value in given.items()}
    return lambda: dk.ADAG(made, directory=tmp_path, **renamed).train((X, Y))


def by_command_line(made: keras.Model, tmp_path, **given):
    made.save(tmp_path / "made.keras")
    np.savez(tmp_path / "data.npz", x_train=X, y_train=Y)
    words = []
    for name, value in given.items():
        text = str(value[0] if isinstance(value, list) else value).lower()
        words += [OPTIONS[name]] if name == EAGER else [OPTIONS[name], text]
    command = ["train", "--model", f"{tmp_path}/made.keras", "--data", f"{tmp_path}/data.npz", "--out", f"{tmp_path}/out"]
    command += ["--backend", keras.backend.backend(), *words]
    return lambda: CliRunner().invoke(cli.main, command, catch_exceptions=False)


def by_estimator(made: keras.Model, tmp_path, **given):
    from spark_bridge import KerasEstimator

    renamed = {"worker_optimizer" if name == "optimizer" else name: value for name, value in given.items()}
    estimator = KerasEstimator(made, **renamed)
    trainer = dk.ADAG(estimator.payload.unpack(compile=True), directory=tmp_path, **estimator.arguments())
    return lambda: trainer.train((X, Y))


def by_data_frame(made: keras.Model, tmp_path, **given):
    from spark_bridge import dataframe

    renamed = {"worker_optimizer" if name == "optimizer" else name: value for name, value in given.items()}
    trainer = dk.ADAG(made, **renamed)

    def start() -> None:
        trainer.prepare(True, 0)
        for name, content in dataframe.files_of(trainer.job, trainer.model, tmp_path).items():
            (tmp_path / name).write_bytes(content)
        trainer.job.launch()

    return start


@pytest.mark.parametrize("front", [by_trainer, by_command_line, by_estimator, by_data_frame])
@pytest.mark.parametrize("item", ITEMS)
def test_an_item_is_the_job_s_else_the_model_s_else_the_default(item, front, tmp_path, in_rank):
    _, given, shown, own_shown, given_shown, default_shown = ITEMS[item]
    assert shown(in_rank(front(model(item), tmp_path, **{item: given}))) == given_shown
    assert shown(in_rank(front(model(item), tmp_path))) == own_shown
    if default_shown is not None:
        assert shown(in_rank(front(model(), tmp_path))) == default_shown


def test_the_optimizer_goes_on_from_its_state(tmp_path, in_rank):
    made = model()
    made.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    made.fit(X, Y, verbose=0)
    trained_on = in_rank(by_trainer(made, tmp_path))
    assert int(trained_on.optimizer.iterations) == 2
    for ours, theirs in zip(trained_on.optimizer.variables, made.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("units", "activation", "y", "loss"),
    [
        (2, "softmax", Y, "sparse_categorical_crossentropy"),
        (2, "softmax", Y[:, None], "sparse_categorical_crossentropy"),
        (2, "softmax", np.eye(2)[Y], "categorical_crossentropy"),
        (1, "sigmoid", Y, "binary_crossentropy"),
        (1, "sigmoid", Y[:, None].astype("float32"), "binary_crossentropy"),
        (2, "linear", Y, None),  # logits, or a regression?
        (1, "linear", Y, None),
        (1, "relu", X[:, :1], None),
        (3, "sigmoid", X[:, :3], None),
        (1, "softmax", X[:, :1], None),
    ],
)
def test_a_loss_is_guessed_of_what_leaves_no_doubt(units, activation, y, loss):
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation=activation)])
    nested = keras.Sequential([keras.Input((4,)), made])
    for each in (made, nested):
        if loss is None:
            text = f"Expected a loss. Received: none, for an output of {units} units with activation {activation}"
            with pytest.raises(ModelError, match=text):
                guess_loss(each, (X, y), compiled=False)
        else:
            assert guess_loss(each, (X, y), compiled=False) == loss
    with pytest.raises(ModelError, match="was compiled without one"):
        guess_loss(made, (X, y), compiled=True)


def test_a_compile_of_the_class_s_own_is_called_as_the_user_calls_it(in_rank, tmp_path):
    @keras.saving.register_keras_serializable("test_compilation")
    class Own(keras.Sequential):
        def compile(self, colour="red", **options):
            self.colour = colour
            super().compile(**options)

        def get_compile_config(self):
            return {"colour": self.colour}

        def compile_from_config(self, config):
            self.compile(**config, optimizer="sgd", loss="mse")

    Own.__module__ = "layers_of_mine"  # a module that ranks may import
    made = Own([keras.Input((4,)), keras.layers.Dense(2)])
    made.compile("blue", optimizer="sgd", loss="mse")
    arrived = in_rank(by_trainer(made, tmp_path))
    assert (arrived.colour, arrived.loss) == ("blue", "mse")
