"""The page for dist-keras' users: it has every public name of dist-keras, and what it says about each is so."""

import importlib
import re
import warnings
from pathlib import Path

import keras
import pytest

import dkcore as dk
from dkcore.schemes import Emperor

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-dist-keras.md"
GONE = "gone"
SECTION = re.compile(r"^### distkeras\.(\w+) is ([\w.]+)$", re.M)
ROW = re.compile(r"^\| `([\w.]+)(?:\(([\w, ]*)\))?` \| (?:`([\w.]+)`|(gone)) \|", re.M)

NAMES = {  # what distkeras 0.2.1 has, and what its notebooks used before
    "trainers": "Trainer SingleTrainer AveragingTrainer EnsembleTrainer DistributedTrainer AsynchronousDistributedTrainer "
    "SynchronousDistributedTrainer AEASGD AsynchronousEASGD EASGD DOWNPOUR EAMSGD AsynchronousEAMSGD ADAG DynSGD Experimental "
    "set_max_prefetch set_model record_training_start record_training_end get_training_time get_history get_averaged_history "
    "get_executor_history train serialize has_history add_history allocate_worker average_models set_minibatch_size "
    "get_minibatch_size get_features_column get_label_column get_learning_rate set_learning_rate set_num_epoch get_num_epoch "
    "set_master determine_new_master allocate_parameter_server set_num_workers get_num_workers num_updates service stop_service "
    "start_service set_parallelism_factor get_parallelism_factor parameter_server",
    "transformers": "Transformer MinMaxTransformer StandardTransformer BinaryLabelTransformer DenseTransformer OneHotTransformer "
    "LabelVectorTransformer ReshapeTransformer LabelIndexTransformer",
    "predictors": "Predictor ModelPredictor predict",
    "evaluators": "Evaluator AccuracyEvaluator evaluate",
    "utils": "get_os_username set_keras_base_directory to_one_hot_encoded_dense to_dense_vector to_vector new_dataframe_row "
    "json_to_dataframe_row pickle_object unpickle_object serialize_keras_model history_executors_average history_executor "
    "deserialize_keras_model uniform_weights shuffle precache",
    "schemes": "Scheme Emperor initialize get_epoch_over_evaluation_frequency optimize",
    "parameter_servers": "ParameterServer SocketParameterServer DeltaParameterServer ADAGParameterServer DynSGDParameterServer "
    "ExperimentalParameterServer",
    "workers": "Worker SequentialWorker NetworkWorker ADAGWorker DOWNPOURWorker AEASGDWorker EAMSGDWorker DynSGDWorker ExperimentalWorker",
    "networking": "determine_host_address connect recvall recv_data send_data",
    "job_deployment": "Job Punchcard",
}


def sections() -> dict[str, tuple[str, str]]:
    """For each module of dist-keras the one that has its place, and the text about it."""
    found = list(SECTION.finditer(text := PAGE.read_text()))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return {match[1]: (match[2], text[match.end() : end]) for match, end in zip(found, ends, strict=True)}


def rows() -> list[tuple[str, str, str, str | None]]:
    """(the module's successor, name, its arguments, where it is now; None: gone)"""
    return [(successor, row[1], row[2], row[3]) for successor, text in sections().values() for row in ROW.finditer(text)]


def resolve(path: str):
    """The object of a dotted path."""
    head, *rest = path.split(".")
    found = importlib.import_module(head)
    for name in rest:
        try:
            found = getattr(found, name)
        except AttributeError:
            found = importlib.import_module(f"{found.__name__}.{name}")
    return found


def test_the_page_has_every_name():
    assert sections().keys() == NAMES.keys()
    for module, (_, text) in sections().items():
        assert {row[1].split(".")[-1] for row in ROW.finditer(text)} >= set(NAMES[module].split()), module
    assert len(rows()) == sum(line.startswith("| `") for line in PAGE.read_text().split("## Every public name")[1].splitlines())


@pytest.mark.parametrize(("name", "path"), [(name, path) for _, name, _, path in rows() if path])
def test_what_is_named_is_there(name, path):
    resolve(path)


@pytest.mark.parametrize(("successor", "name"), [(successor, name) for successor, name, _, path in rows() if not path])
def test_what_is_gone_is_gone(successor, name):
    if successor == GONE:
        return
    owner, _, method = name.rpartition(".")
    places = [path for _, other, _, path in rows() if other == owner] if owner else [successor]
    assert places and all(not hasattr(resolve(place), method) for place in places)


@pytest.mark.parametrize("module", [module for module, (successor, _) in sections().items() if successor == GONE])
def test_modules_that_are_gone_are_gone(module):
    for package in ("dkcore", "spark_bridge"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"{package}.{module}")


def model() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])


VALUES = {
    "worker_optimizer": "adagrad", "loss": "categorical_crossentropy", "metrics": ["accuracy"], "num_workers": 3, "batch_size": 16,
    "features_col": "x", "label_col": "y", "num_epoch": 2, "communication_window": 5, "rho": 4.0, "learning_rate": 0.05,
    "momentum": 0.6, "master_port": 5000, "loss_weights": [1.0], "num_ensembles": 3, "o_min": 0.0, "o_max": 250.0, "n_min": 0.0,
    "n_max": 1.0, "input_col": "x", "output_col": "z", "is_vector": True, "columns": ["x"], "suffix": "_n", "input_column": "x",
    "output_column": "z", "label": "b", "output_dim": 2, "shape": (2, 2), "default_index": 1, "activation_threshold": 0.5,
    "prediction_col": "p", "evaluate_loss": lambda trained, frame: 0.0, "evaluation_frequency": 2,
}  # fmt: skip
WARNED = {"master_port": "no port", "momentum": "Adagrad is not used", "evaluate_loss": "starts all ranks anew"}


@pytest.mark.parametrize(("name", "arguments", "path"), [(name, arguments, path) for _, name, arguments, path in rows() if arguments])
def test_arguments_are_accepted(name, arguments, path):
    names = arguments.split(", ")
    values = VALUES | {"keras_model": model(), "optimizer": dk.ADAG(model(), loss="mse")}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        made = resolve(path)(**{argument: values[argument] for argument in names})
    warned = [warning for warning in warned if warning.category is UserWarning]
    told = " ".join(str(warning.message) for warning in warned)
    assert len(warned) == sum(name in names and text in told for name, text in WARNED.items())
    assert all(warning.filename == __file__ for warning in warned)
    if not isinstance(made, dk.Trainer):
        return
    job, given = made.job, {argument: VALUES[argument] for argument in names if argument in VALUES}
    known = {"num_workers": job.workers, "num_ensembles": job.workers, "batch_size": job.batch_size, "num_epoch": job.epochs,
             "communication_window": job.window, "loss": job.loss, "loss_weights": job.loss_weights, "metrics": job.metrics,
             "features_col": made.get_features_column(), "label_col": made.get_label_column(),
             "learning_rate": made.get_learning_rate()}  # fmt: skip
    assert {argument: known[argument] for argument in given if argument in known} == {key: given[key] for key in given if key in known}
    if "rho" in names:
        assert job.scalars == {"alpha": pytest.approx(0.2)}
    if "momentum" in names:
        step = made.worker_optimizer()
        assert (step.momentum, step.nesterov, float(step.learning_rate)) == (0.6, True, pytest.approx(0.05))


def test_setters_hold_for_the_next_training():
    trainer = dk.ADAG(model(), loss="mse")
    for name, value in (("num_workers", 3), ("num_epoch", 4), ("minibatch_size", 5), ("parallelism_factor", 2), ("learning_rate", 0.25)):
        getattr(trainer, f"set_{name}")(value)
        assert getattr(trainer, f"get_{name}")() == value
        with pytest.raises(ValueError, match="Expected"):
            getattr(trainer, f"set_{name}")(0)
    assert (trainer.job.workers, trainer.job.epochs, trainer.job.batch_size, trainer.job.learning_rate) == (3, 4, 5, 0.25)
    other = model()
    trainer.set_model(other)
    assert trainer.model is other
    with pytest.raises(dk.errors.ModelError, match="a Keras model"):
        trainer.set_model("other")
    assert trainer.parameter_server is None and not trainer.has_history()
    with pytest.warns(UserWarning, match="does nothing"):
        trainer.set_max_prefetch(10)
    easgd = dk.EASGD(model(), loss="mse", num_workers=3)
    easgd.set_num_workers(9)
    assert easgd.job.scalars == {"alpha": pytest.approx(0.1)}


@pytest.mark.parametrize("kind", [dk.AEASGD, dk.EAMSGD, dk.Experimental])
def test_a_learning_rate_of_its_own_is_set(kind):
    trainer = kind(model(), loss="mse", learning_rate=0.2)
    assert trainer.get_learning_rate() == 0.2
    trainer.set_learning_rate(0.1)
    assert trainer.get_learning_rate() == 0.1
    assert trainer.job.scalars == ({"lr": 0.1} if kind is dk.Experimental else {"alpha": 0.5})
    assert trainer.job.learning_rate == (0.1 if kind is dk.EAMSGD else None)


def test_a_schedule_has_no_learning_rate_beside_it():
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    with pytest.raises(ValueError, match="an optimizer without a schedule.*ExponentialDecay"):
        dk.ADAG(model(), keras.optimizers.Adam(decay), "mse", learning_rate=0.1)
    with pytest.raises(ValueError, match="an optimizer without a schedule.*ExponentialDecay"):
        dk.ADAG(model(), keras.optimizers.Adam(decay), "mse").set_learning_rate(0.1)
    dk.ADAG(model(), keras.optimizers.Adam(decay), "mse")


def test_the_emperor_lowers_the_learning_rate_when_the_loss_settles():
    class Recorder(dk.ADAG):
        trained: list = []  # noqa: RUF012

        def train(self, data):
            self.trained.append((data, self.get_num_epoch(), self.get_learning_rate()))
            return self.model

    losses = iter([9.0, 5.0, 4.8, 1.0])
    with pytest.warns(UserWarning, match="starts all ranks anew"):
        emperor = Emperor(Recorder(model(), "sgd", "mse", learning_rate=0.5), lambda trained, frame: next(losses), 7, 2)
    assert isinstance(emperor.optimize("rows", "others"), keras.Model)
    assert Recorder.trained == [("rows", 2, 0.5), ("rows", 2, 0.5), ("rows", 2, 0.5), ("rows", 1, 0.05)]


def test_weights_are_drawn_evenly_and_travel():
    from dkcore import utils

    start = keras.Sequential([keras.Input((50,)), keras.layers.Dense(50), keras.layers.BatchNormalization()])
    utils.uniform_weights(start, [-0.25, 0.75])
    drawn = keras.ops.convert_to_numpy(start.layers[0].kernel)
    assert -0.25 <= drawn.min() < -0.2 and 0.7 < drawn.max() <= 0.75 and abs(drawn.mean() - 0.25) < 0.02
    assert (keras.ops.convert_to_numpy(start.layers[1].moving_variance) == 1).all()
    again = utils.deserialize_keras_model(utils.serialize_keras_model(start))
    assert all((one == two).all() for one, two in zip(start.get_weights(), again.get_weights(), strict=True))
