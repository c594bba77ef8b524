"""All settings of a training, each stated once. To add one, add a field here, and use it where a rank trains.

``setting`` states it for all fronts: the command line, the trainers, ``KerasEstimator`` and the table in docs/training.md, which
``python -m dkcore.settings`` writes anew. ``internal`` is for what only fronts write. `dkcore.settings.setting` says what may be stated.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dkcore.arguments import count, json_value, listed_or_dict, plain, real, text, texts, truth, weights_of_classes, whole
from dkcore.checkpoints.schedule import every_of
from dkcore.errors import expected
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import UNDO, Synchronous, check_staleness, check_undo
from dkcore.frameworks import BACKENDS
from dkcore.merge.settings import Merging
from dkcore.registry import plain_rule, rule_of
from dkcore.settings.option import Option, module_paths, scalar_of, sequence, true_false_or, weights, words
from dkcore.settings.setting import Argument, internal, setting, settings_of

__all__ = ["SEEDS", "Settings"]

WORKER_LOSS = ("stop", "restart", "shrink")
SHARDINGS = ("fixed", "dynamic")
SEEDS = 2**32  # what numpy and the frameworks take for a seed is below it


def backend_of(_: str, value: Any) -> str:
    if value not in BACKENDS:
        raise ValueError(expected(f"a backend of {', '.join(BACKENDS)}", repr(value), "These are what Keras 3 trains on."))
    return str(value)


def rule_as_data(_: str, value: Any) -> str | dict[str, Any]:
    """A rule by its name, or as all that it is."""
    found = rule_of(value)
    return value if isinstance(value, str) else plain_rule(found)


def scalars_of(_: str, value: Any) -> dict[str, float]:
    return {name: real(name, each) for name, each in dict(value).items()}


def true_false_auto(name: str, value: Any) -> bool | str:
    return value if value == "auto" else truth(name, value)


def staleness(_: str, value: Any) -> int:
    """A bound on staleness; whether the rule knows one is for the job to say."""
    bound: int = plain(value)
    check_staleness(bound)
    return bound


def undo(_: str, value: Any) -> str:
    """What is taken back of a dead worker's commit."""
    check_undo(value)
    return str(value)


def seconds(name: str, value: Any) -> float:
    number: float = real(name, value)
    if not number > 0:
        raise ValueError(expected(f"{name} of more than 0 s", repr(value), "It is a time."))
    return number


def worker_loss(_: str, value: Any) -> str:
    if value not in WORKER_LOSS:
        raise ValueError(expected("on_worker_loss of stop, restart or shrink", repr(value), "It is for workers that are killed."))
    return str(value)


def sharding_of(_: str, value: Any) -> str:
    if value not in SHARDINGS:
        raise ValueError(expected(f"sharding of {' or '.join(SHARDINGS)}", repr(value), "See docs/training.md."))
    return str(value)


def location(name: str, value: Any) -> str:
    """A path as an absolute one; a URI as it is."""
    path = text(name, os.fspath(value))
    return path if "://" in path else os.path.abspath(path)


def interval(_: str, value: Any) -> str | int:
    every_of(plain(value))
    known: str | int = plain(value)
    return known


def of_merging(attribute: str) -> Callable[[str, Any], Any]:
    """The check of a setting of `Merging`."""

    def check(_: str, value: Any) -> Any:
        Merging(**{attribute: plain(value)})
        return plain(value)

    return check


@dataclass(kw_only=True)
class Settings:
    """What a training is asked for: the fields of a `dkcore.training.job.Job` that job.json has."""

    # fmt: off
    trainer: str = internal("ADAG", "Name to report.", check=text)
    rule: str | dict[str, Any] | Rule | Synchronous = internal(
        "adag", "Name of a built-in rule or synchronous method; or another one, kept as its to_dict.", check=rule_as_data)
    workers: int = setting(
        2, "Ranks to start.", check=count, unit="ranks", unset="the slots of all hosts; without hosts 2, SingleTrainer 1",
        option=Option(default=None), keyword=Argument("num_workers", default=None))
    window: int = setting(
        12, "Optimizer steps between exchanges; the trainer's own by default.", check=count, unit="steps",
        option=Option(default=None), keyword=Argument("communication_window", default=None))
    epochs: int = setting(
        1, "Passes over the data, shared by all workers.", check=count, unit="epochs", keyword=Argument("num_epoch"))
    initial_epoch: int = setting(
        0, "Epochs that count as done, as of fit.", check=partial(whole, least=0), unit="epochs", keyword=Argument(train=True),
        param=None)
    batch_size: int = setting(
        32, "Samples in a step of one worker.", check=count, unit="samples", keyword=Argument(after="num_workers"))
    optimizer: Any = setting(
        None, "Name of a Keras optimizer.", check=json_value, objects=True, unset="the compiled model's, else adam",
        more="In Python also the optimizer itself, whose learning-rate schedule travels with it. DiLoCo begins with adamw, EAMSGD with "
        "SGD and Nesterov momentum.", keyword=Argument("worker_optimizer", default="default"))
    learning_rate: float | None = setting(
        None, "Learning rate of the optimizer.", check=real, option=Option(help="Of the optimizer."), param=None,
        more="Of the rule, if it has a scalar of that name. For AEASGD, EAMSGD and EASGD that of the elastic force, unless alpha is given.",
        keyword=Argument(after="weight_col"))
    loss: Any = setting(
        None, "Name of a Keras loss.", check=json_value, objects=True, more="In Python also the loss itself.",
        unset="the compiled model's, else that of its softmax or sigmoid")
    loss_weights: Any = setting(
        None, "Weights of the losses of the outputs, in their order.", check=json_value, objects=True, unset="the compiled model's",
        more="In Python also a dict by output.", keyword=Argument(after="num_epoch"),
        option=Option("--loss-weight", help="Of each output in turn.", multiple=True, element=float, read=sequence))
    metrics: list[Any] | dict[str, Any] | None = setting(
        None, "Names of Keras metrics.", check=listed_or_dict, objects=True, unset="the compiled model's, else accuracy",
        more="In Python also the metrics themselves, in a list or a dict by output.",
        option=Option("--metric", help="May be repeated; none.", multiple=True, read=words))
    weighted_metrics: list[Any] | dict[str, Any] | None = setting(
        None, "Metrics that use sample weights.", check=listed_or_dict, objects=True, unset="the compiled model's", param=None,
        option=Option("--weighted-metric", help="May be repeated.", multiple=True, read=sequence))
    class_weight: dict[int, float] | None = setting(
        None, "Weights of the loss, by class.", check=weights_of_classes,
        option=Option(help="Of the loss, by class; may be repeated.", metavar="CLASS=WEIGHT", multiple=True, read=weights))
    run_eagerly: bool | None = setting(
        None, "Run the model eagerly, as in compile.", check=truth, unset="as the model was compiled, else not", option=Option(help=""),
        keyword=Argument(after="weighted_metrics"), param=None)
    jit_compile: bool | str | None = setting(
        None, "Compile the model with XLA, as in compile.", check=true_false_auto, unset="as the model was compiled, else auto", param=None,
        option=Option(help="", choices=("true", "false", "auto"), read=true_false_or))
    steps_per_execution: int | None = setting(
        None, "Optimizer steps in one execution, as in compile.", check=count, unit="steps", option=Option(help=""), param=None,
        unset="as the model was compiled; if that is 1, the window on TensorFlow")
    scalars: dict[str, float] = setting(
        {}, "A hyper-parameter of the rule, such as alpha=0.1.", check=scalars_of, keyword=None, param=None,
        more="Trainers take them by their names.",
        option=Option("--scalar", metavar="NAME=VALUE", multiple=True, read=lambda texts: dict(map(scalar_of, texts))))
    backend: str = setting(
        "tensorflow", "The framework that Keras computes with.", check=backend_of, keyword=None, param=None,
        unset="KERAS_BACKEND, else the first installed", option=Option(default=None, help="", choices=BACKENDS),
        more="Trainers take the one that the script has imported Keras with.")
    scale: float | None = setting(
        None, "Multiply the features by it, unless the model does so itself.", check=real, keyword=None, param=None)
    seed: int = setting(
        0, "Seed of everything random.", check=partial(whole, least=0, below=SEEDS), option=Option(help=""),
        more="Trainers: by default that of keras.utils.set_random_seed, else 0.", keyword=Argument(default=None, after="directory"),
        param=Argument(after="validation_indicator_col"))
    shuffle: bool = setting(
        True, "Shuffle the rows, anew each epoch.", check=truth, option=Option(help="Anew each epoch."), keyword=Argument(train=True),
        param=Argument(after="class_weight"))
    sharding: str = setting(
        "fixed", "How rows are divided: fixed, each worker has its part of an epoch; or dynamic, workers of a node take what comes next.",
        check=sharding_of, option=Option(help="Of rows among workers.", choices=SHARDINGS), param=None)
    check_finite: bool = setting(True, "Stop at NaN and infinity.", check=truth, param=None)
    max_staleness: int | None = setting(
        None, "Exchanges that a worker may be ahead of the slowest.", check=staleness, unit="exchanges", unset="any", param=None)
    undo: str | None = setting(
        None, "What is taken back in a stripe that a worker was killed in: block, its open block; stripe, all; or none.", check=undo,
        unset="block; stripe for synchronous methods", option=Option(help="When a worker is killed.", choices=UNDO), param=None)
    merge_every: str | int = setting(
        "auto", "Between nodes: auto, a number of exchanges, or a time (0.5s).", check=of_merging("every"), param=None)
    merge_compression: str = setting(
        "none", "Compression between nodes: none, bf16, fp16, int8 or topk:FRACTION.", check=of_merging("compression"), param=None,
        option=Option(help="none, bf16, fp16, int8 or topk:FRACTION."))
    merge_timeout: float = setting(
        60.0, "Seconds that another node may be silent.", check=of_merging("timeout"), unit="s", param=None)
    on_node_loss: str = setting(
        "stop", "What to do when a node is lost: stop, or shrink, which goes on without it (Open MPI with ULFM).",
        check=of_merging("on_node_loss"), option=Option(help="shrink: Open MPI, ULFM.", choices=("stop", "shrink")), param=None)
    on_worker_loss: str = setting(
        "stop", "What to do when a worker is killed: stop the job; restart it, see restarts; or shrink, and go on without it.",
        check=worker_loss, option=Option(help="When a worker is killed.", choices=WORKER_LOSS))
    restarts: int = setting(
        3, "How often a worker is started again before the job goes on without it.", check=partial(whole, least=0), unit="restarts",
        option=Option(help="Of one worker, before it is left out."))
    stall_timeout: float | None = setting(
        None, "Seconds without progress after which a worker counts as killed; 60 at least until its first exchange.",
        check=seconds, unit="s",
        unset="it is only told, after 60 s",
        more="It needs on_worker_loss. An evaluation, or a long window, is no progress either.")
    checkpoint: str | None = setting(
        None, "Folder for checkpoints; or its URI, on any file system that pyarrow knows.", check=location,
        unset="none; with checkpoint_every, dkcore train writes them to checkpoints in --out",
        option=Option(help="Folder or URI for checkpoints.", metavar="FOLDER"))
    checkpoint_every: str | int | None = setting(
        None, "Time, epochs or exchanges between checkpoints: 5min, 2 epochs, 100 exchanges.", check=interval,
        unset="each epoch, if there is a folder for them", more="Epochs and exchanges are those of the first worker.",
        option=Option(help="5min, 2 epochs, 100 exchanges.", metavar="INTERVAL"))
    keep: int = setting(3, "The newest checkpoints to keep.", check=count, unit="checkpoints")
    resume: str | None = setting(
        None, "Checkpoint to go on from; or a folder of them, of which the newest whole one is taken.", check=location,
        option=Option(help="Checkpoint, or folder of them, to go on from.", metavar="PATH"))
    modules: list[str] = setting(
        [], "Module or file that registers custom layers.", check=texts, keyword=Argument("custom_modules", default=(), after="label_col"),
        more="Modules that this process has imported are found without.", param=Argument(after="prediction_batch_size"),
        option=Option("--module", multiple=True, read=module_paths, after="mpi"))
    safe_mode: bool = setting(
        True, "Whether code stored in a .keras file is refused.", check=truth, param=None,
        more="With False ranks run the bytecode of Lambda layers, as keras.saving.load_model(..., safe_mode=False) does.")
    model: str = internal("model.keras", "A file in the directory, or FILE.py:FUNCTION.", check=text)
    paths: list[str] = internal([], "Where ranks look for modules.", check=texts)
    default_optimizer: Any = internal("adam", "Of the trainer, where neither job nor model has one.", check=json_value)
    compiled: dict[str, Any] | None = internal(
        None, "The model's own compile, where it is not read from the model's file.", check=json_value)
    excluded_from_decay: dict[str, Any] | None = internal(
        None, "Variables (places in model.weights) and names that the optimizer does not decay.", check=json_value)
    keras: dict[str, Any] = internal({}, "The state of the driver's Keras, see dkcore.training.keras_state.", check=json_value)
    travels: bool = internal(
        False, "Ranks write checkpoints, and read the one to resume from, in directories of their own: they travel to the driver and back.",
        check=truth)
    last_checkpoint: int = internal(0, "The number of the last checkpoint that there is.", check=partial(whole, least=0))
    # fmt: on

    def __post_init__(self) -> None:
        kind: type = type(self)
        for each in settings_of(kind):
            setattr(self, each.name, each.checked(getattr(self, each.name)))
