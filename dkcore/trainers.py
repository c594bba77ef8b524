"""Trainers with the names, arguments and defaults that dist-keras' users know. Each is thin: a rule, defaults, a `Job`.

>>> trainer = ADAG(model, worker_optimizer="adam", loss="sparse_categorical_crossentropy", num_workers=2)  # doctest: +SKIP
>>> trained = trainer.train((x, y), validation_data=(x_test, y_test))  # doctest: +SKIP
"""

import sys
import tempfile
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from dkcore.errors import ModelError, expected
from dkcore.hosts import count_ranks, parse_hosts, place, shared_folder
from dkcore.job import JOB, Job
from dkcore.rule import Rule
from dkcore.synchronous import Synchronous

__all__ = ["ADAG", "AEASGD", "AGN", "DOWNPOUR", "EAMSGD", "EASGD", "AveragingTrainer", "DiLoCo", "DynSGD", "EnsembleTrainer",
           "Experimental", "SingleTrainer", "Trainer"]  # fmt: skip

Names = str | list[str] | dict[str, str]


class Trainer:
    """What all trainers share; also a trainer for a rule of your own: ``Trainer(model, rule=mine)``.

    Args:
        keras_model: a built Keras model.
        worker_optimizer: name, Keras optimizer (its learning-rate schedule travels with it), or None to keep what the
            model was compiled with.
        loss, metrics, loss_weights: as in ``compile``.
        num_workers: ranks, each with a replica.
        batch_size: of one worker.
        communication_window: optimizer steps between exchanges.
        num_epoch: passes over the data, shared by all workers.
        custom_modules: names or files of the modules that register the model's custom layers.
        rule, scalars: a rule of `dkcore.rules` or your own, and its hyper-parameters.
        mpi: ``auto``, ``mpich``, ``openmpi`` or ``site``, see `dkcore.launch`.
        hosts: such as ``"a:2,b:2"``, see `dkcore.launch`; then num_workers is the sum of the slots by default.
        directory: an existing folder that all hosts see, for the job's files while it runs; the current one by default.
        features_col, label_col: names of the columns, for DataFrames: one, a list in the order of the model's inputs or outputs,
            or a dict from their names.
        parallelism_factor: for scripts of dist-keras, which dealt out so many partitions to each worker; here the workers of a
            node pool their rows, so it changes nothing.
        max_restarts: for DataFrames: how often to start again, from the last epoch's center, when ranks fail.
        check_finite: stop when a worker's weights are NaN or infinite.
        max_staleness: exchanges that a worker may be ahead of the slowest; None: any.
        merge_every, merge_compression, merge_timeout, on_node_loss: between nodes, see `dkcore.merging.Merging`.

    Raises:
        ModelError: no Keras model. ValueError, TypeError: an argument that cannot be meant.
    """

    rule: ClassVar[str] = "adag"
    window: ClassVar[int] = 12
    workers: ClassVar[int] = 2
    scalars: ClassVar[dict[str, float]] = {}
    optimizer: ClassVar[Any] = "adam"

    def __init__(self, keras_model, worker_optimizer: Any = "default", loss: Any = None, metrics: list | tuple | dict = ("accuracy",), *,
                 num_workers: int | None = None, batch_size: int = 32, communication_window: int | None = None, num_epoch: int = 1,
                 loss_weights: Any = None, features_col: Names = "features", label_col: Names = "label", custom_modules: list[str] = (),
                 rule: str | Rule | Synchronous | None = None, mpi: str = "auto", hosts: str | list | None = None,
                 directory: str | Path | None = None, seed: int = 0, check_finite: bool = True, max_staleness: int | None = None,
                 merge_every: str | int = "auto", merge_compression: str = "none", merge_timeout: float = 60.0,
                 on_node_loss: str = "stop", parallelism_factor: int = 1, max_restarts: int = 0, **scalars: float):
        import keras

        if not isinstance(keras_model, keras.Model):
            raise ModelError(expected("a Keras model", type(keras_model).__name__, "Pass keras.Sequential([...]) or the like."))
        self.model, self.mpi, self.columns = keras_model, mpi, (features_col, label_col)
        count("parallelism_factor", parallelism_factor, 1)
        self.max_restarts = count("max_restarts", max_restarts, 0)
        self.hosts, self.directory = None if hosts is None else parse_hosts(hosts), directory
        rule = self.rule if rule is None else rule
        worker_optimizer = self.optimizer if isinstance(worker_optimizer, str) and worker_optimizer == "default" else worker_optimizer
        if worker_optimizer is not None:
            keras.optimizers.get(worker_optimizer)  # a name that is none is refused here
        self.job = Job(
            trainer=type(self).__name__,
            rule=rule.to_dict() if isinstance(rule, Rule | Synchronous) else rule,
            scalars={**self.scalars, **scalars},
            window=self.window if communication_window is None else communication_window,
            workers=count_ranks(self.hosts, num_workers, self.workers),
            epochs=num_epoch,
            batch_size=batch_size,
            seed=seed,
            backend=keras.backend.backend(),
            optimizer=serialize(worker_optimizer),
            loss=serialize(loss),
            metrics=serialize(metrics if isinstance(metrics, dict) else list(metrics)),
            loss_weights=loss_weights,
            modules=list(custom_modules),
            check_finite=check_finite,
            max_staleness=max_staleness,
            merge_every=merge_every,
            merge_compression=merge_compression,
            merge_timeout=merge_timeout,
            on_node_loss=on_node_loss,
        )
        if self.hosts:
            place(self.hosts, self.job.workers)  # refuses too many
        self.report: dict | None = None
        self.history = None

    def train(self, data: Any, shuffle: bool = True, validation_data: Any = None, *, show: bool = False):
        """Start the ranks, wait for them, and return a new Keras model with the center's weights.

        Args:
            data: (x, y), numpy arrays (or nested lists, dicts of them) of as many rows each; or a Spark DataFrame, whose
                executors then train.
            shuffle: anew each epoch.
            validation_data: on which the center is evaluated after each epoch: (x, y); for a DataFrame another one, or the
                fraction of its rows to hold out.
            show: a progress bar; for a DataFrame, what the ranks print.

        Raises:
            RankError: a rank raised or died; its traceback is in the message.
        """
        from dkcore import outcome

        self.job.shuffle, self.job.paths = shuffle, search_paths()
        if type(data).__module__.startswith("pyspark.sql"):
            from spark_bridge import dataframe

            return dataframe.train(self, data, validation_data, show=show)
        arrays = pair("data", data, "train")
        if validation_data is not None:
            arrays |= pair("validation_data", validation_data, "test")
        where = shared_folder(self.hosts, self.directory or Path.cwd())
        with tempfile.TemporaryDirectory(prefix=JOB, dir=where) as directory:
            self.job.save(directory, arrays)
            self.model.save(Path(directory) / "model.keras")
            self.job.launch(mpi=self.mpi, hosts=self.hosts, show=show, temporary=True)
            self.report, self.history = outcome.collect(self.job)
            return outcome.trained_model(self.job)

    @classmethod
    def scalars_for(cls, workers: int) -> dict[str, float]:
        """The scalars of the rule where none are given."""
        return dict(cls.scalars)

    def done(self) -> dict:
        if self.report is None:
            raise ValueError(expected("a trainer that has trained", "one that has not", "Call train first."))
        return self.report

    def get_history(self) -> list[dict]:
        """One record for each exchange of each worker: worker, step, time, epoch, loss, metrics, staleness."""
        self.done()
        return [record for record in self.history.to_pylist() if record["worker"] >= 0]

    def get_executor_history(self, worker: int) -> list[dict]:
        """The records of one worker, in order."""
        from dkcore import history

        self.done()
        return history.executor_history(self.history, worker)

    def get_averaged_history(self) -> np.ndarray:
        """Loss and metrics at each step, averaged over the workers: a structured array, see `dkcore.history`."""
        from dkcore import history

        self.done()
        return history.averaged_history(self.history)

    def get_training_time(self) -> float:
        """Seconds of training, without start-up and evaluation."""
        return self.done()["training_time_s"]

    @property
    def num_updates(self) -> int:
        """Exchanges of all workers."""
        return self.done()["exchanges"]


class SingleTrainer(Trainer):
    """One worker, plain training; the center only mirrors it."""

    rule, window, workers = "single", 12, 1


class DOWNPOUR(Trainer):
    """Dean et al. 2012, Large scale distributed deep networks."""

    rule, window = "downpour", 5


class ADAG(Trainer):
    """Accumulated gradient normalization (AGN), which dist-keras calls ADAG. Hermans et al. 2017, arXiv 1710.02368."""

    rule, window = "adag", 12


AGN = ADAG


class DynSGD(Trainer):
    """Progress damped by staleness; Hermans 2017, after Jiang et al. 2017 (SIGMOD)."""

    rule, window = "dynsgd", 5


class AEASGD(Trainer):
    """Asynchronous elastic averaging; Zhang, Choromanska, LeCun 2015, arXiv 1412.6651.

    The elastic force is ``alpha``, or ``rho * learning_rate`` as dist-keras has it (5.0 * 0.1); the paper's choice is
    0.9 / num_workers.
    """

    rule, window, scalars = "aeasgd", 32, {"alpha": 0.5}

    def __init__(self, *arguments, rho: float = 5.0, learning_rate: float = 0.1, alpha: float | None = None, **options):
        super().__init__(*arguments, alpha=rho * learning_rate if alpha is None else alpha, **options)


class EAMSGD(AEASGD):
    """AEASGD with Nesterov momentum as the local step: Keras' own SGD, which takes the gradient at the look-ahead point."""

    optimizer = MappingProxyType(
        {"class_name": "SGD", "module": "keras.optimizers", "config": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}}
    )

    def __init__(self, keras_model, worker_optimizer="default", *arguments, learning_rate: float = 0.1, momentum: float = 0.9, **options):
        import keras

        if isinstance(worker_optimizer, str) and worker_optimizer in ("default", "sgd"):
            worker_optimizer = keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=True)
        if not isinstance(worker_optimizer, keras.optimizers.SGD) or not worker_optimizer.nesterov:
            what = "no optimizer, 'sgd', or keras.optimizers.SGD(..., nesterov=True)"
            raise ValueError(expected(what, repr(worker_optimizer), "EAMSGD is defined by its local Nesterov step."))
        super().__init__(keras_model, worker_optimizer, *arguments, learning_rate=learning_rate, **options)


class EASGD(Trainer):
    """Synchronous elastic averaging; Zhang, Choromanska, LeCun 2015, arXiv 1412.6651.

    All workers meet every window. ``alpha`` is the elastic force, by default the paper's beta / num_workers with beta = 0.9.
    """

    rule, window = "easgd", 10

    def __init__(self, *arguments, alpha: float | None = None, beta: float = 0.9, num_workers: int | None = None, **options):
        hosts = options.get("hosts")
        workers = count_ranks(hosts and parse_hosts(hosts), num_workers, self.workers)
        alpha = self.scalars_for(workers, beta)["alpha"] if alpha is None else alpha
        super().__init__(*arguments, num_workers=workers, alpha=alpha, **options)

    @classmethod
    def scalars_for(cls, workers: int, beta: float = 0.9) -> dict[str, float]:
        return {"alpha": beta / max(workers, 1)}


class AveragingTrainer(Trainer):
    """Model averaging: every window steps (SparkNet's tau) all workers go on from their mean. Moritz et al. 2015, arXiv 1511.06051."""

    rule, window = "averaging", 50


class EnsembleTrainer(Trainer):
    """As many models as workers, each trained by itself on its own shard in its own order; `train` returns their average.

    All start from the given model. num_ensembles: dist-keras' name of num_workers.

    Attributes:
        models: after training, the members: what `train` returned has them for layers, and the mean of their outputs.
    """

    rule, window = "independent", 12

    def __init__(self, *arguments, num_ensembles: int | None = None, num_workers: int | None = None, **options):
        from dkcore import ensemble

        super().__init__(*arguments, num_workers=num_ensembles if num_workers is None else num_workers, **options)
        ensemble.check(self.model)
        self.models: list = []

    def train(self, *arguments, **options):
        from dkcore import ensemble

        trained = super().train(*arguments, **options)
        self.models = ensemble.members(trained)
        return trained


class DiLoCo(Trainer):
    """Outer Nesterov momentum on the mean progress of many local AdamW steps. Douillard et al. 2023, arXiv 2311.08105.

    ``lr`` and ``momentum`` are those of the outer step. On small data choose a window that leaves some rounds.
    """

    rule, window, optimizer, scalars = "diloco", 500, "adamw", {"lr": 0.7, "momentum": 0.9}


class Experimental(Trainer):
    """The thesis' ADAG: accumulated gradient normalization, damped by how far the center has moved. Hermans 2017.

    ``learning_rate`` is the distance that halves a step (gamma in the thesis).
    """

    rule, window, scalars = "adag_distance", 5, {"lr": 1e-4}

    def __init__(self, *arguments, learning_rate: float = 1e-4, **options):
        super().__init__(*arguments, lr=learning_rate, **options)


TRAINERS: dict[str, type[Trainer]] = {
    name: kind for name, kind in list(globals().items()) if isinstance(kind, type) and issubclass(kind, Trainer) and kind is not Trainer
}


def serialize(value: Any) -> Any:
    """A Keras object as plain data; names and None as they are."""
    import keras

    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return [serialize(item) for item in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {name: serialize(item) for name, item in value.items()}
    plain = keras.saving.serialize_keras_object(value)
    if isinstance(value, keras.losses.Loss):  # Keras forgets the delta of Huber, and some axes
        forgotten = {name: given for name, given in getattr(value, "_fn_kwargs", {}).items() if name in signature(type(value)).parameters}
        plain["config"] = forgotten | plain["config"]
    return plain


def pair(what: str, data: Any, suffix: str) -> dict:
    """{"x_train": x, "y_train": y} of a tuple."""
    if not isinstance(data, tuple) or len(data) != 2:
        raise TypeError(expected(f"{what} as a tuple (x, y), or a Spark DataFrame", type(data).__name__, "x and y are arrays."))
    return {f"x_{suffix}": data[0], f"y_{suffix}": data[1]}


def count(name: str, value: Any, least: int) -> int:
    """The number, if it is a whole one and not too small."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(expected(f"{name} of {least} or more", repr(value), "It is a whole number."))
    return value


def search_paths() -> list[str]:
    """What can be imported here shall be found in the ranks: the modules beside the script, or beside the notebook."""
    return [str(Path(entry).resolve()) for entry in sys.path if Path(entry).is_dir()]
