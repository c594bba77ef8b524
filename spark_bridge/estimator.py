"""Training as a stage of pyspark.ml: an estimator that fits a Keras model to a DataFrame, and the model that it gives.

>>> estimator = KerasEstimator(model, "AEASGD", "adam", "sparse_categorical_crossentropy", num_epoch=5)  # doctest: +SKIP
>>> predicted = estimator.fit(df).transform(others)  # doctest: +SKIP
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.ml import Estimator, Model
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dkcore.errors import ModelError, expected
from dkcore.rule import Rule
from dkcore.synchronous import Synchronous
from spark_bridge.columns import Names
from spark_bridge.parcel import Parcel
from spark_bridge.persistence import WithModel
from spark_bridge.predictors import PredictionParams, Predictor

if TYPE_CHECKING:
    import keras
    import pyarrow

    from dkcore.trainers import Trainer

__all__ = ["KerasEstimator", "KerasModel"]

HISTORY, REPORT = "history.parquet", "report.json"


def param(name: str, doc: str, converter: Any = TypeConverters.identity) -> Param:
    return Param(Params._dummy(), name, doc, typeConverter=converter)


def plain(value: Any) -> Any:
    """Objects of Keras as plain data, which can be saved."""
    from dkcore.trainers import serialize

    return serialize(value)


def name_of(trainer: Any) -> str:
    """The name of a trainer, which may be given as a class."""
    from dkcore.front import trainer_of

    name = getattr(trainer, "__name__", trainer)
    trainer_of(name)  # refuses what is none
    return name


def plain_options(options: dict) -> dict:
    return {name: value.to_dict() if isinstance(value, Rule | Synchronous) else value for name, value in options.items()}


class KerasEstimator(Estimator, PredictionParams, WithModel):
    """Trains a Keras model on a DataFrame, in ranks on Spark's executors; ``fit`` returns a `KerasModel`.

    Args:
        model: a built Keras model; it stays as it is.
        trainer: name or class of a trainer of `dkcore.trainers`, or name of a rule.
        worker_optimizer, loss, metrics, loss_weights, num_workers, batch_size, communication_window, num_epoch, seed,
            custom_modules: as for `dkcore.trainers.Trainer`.
        features_col, label_col: a column, a list of them in the order of the model's inputs or outputs, or a dict by their names.
        prediction_col: the column, or columns, that the `KerasModel` adds; prediction_batch_size: rows that it sees at once.
        shuffle: the rows, anew each epoch.
        validation_fraction: of the rows, held out for tests after each epoch; or validation_indicator_col: a boolean column that
            is true for the rows to hold out.
        options: all further arguments of the trainer, such as ``alpha=0.3`` or ``max_restarts=2``.

    All but the model are Params, for grids: ``numEpoch``, ``batchSize``, ``workerOptimizer``, ``trainerOptions`` ...
    """

    trainer = param("trainer", "name of a trainer or a rule", name_of)
    workerOptimizer = param("workerOptimizer", "a Keras optimizer, its name, 'default', or None for the compiled model's", plain)
    loss = param("loss", "a Keras loss, or its name", plain)
    metrics = param("metrics", "Keras metrics, or their names", plain)
    lossWeights = param("lossWeights", "of several outputs")
    labelCol = param("labelCol", "columns of the labels: a name, a list, or a dict by output")
    numWorkers = param("numWorkers", "ranks, each with a replica", TypeConverters.toInt)
    batchSize = param("batchSize", "of one worker", TypeConverters.toInt)
    communicationWindow = param("communicationWindow", "optimizer steps between exchanges", TypeConverters.toInt)
    numEpoch = param("numEpoch", "passes over the data", TypeConverters.toInt)
    shuffle = param("shuffle", "the rows, anew each epoch", TypeConverters.toBoolean)
    validationFraction = param("validationFraction", "of the rows, held out for tests", TypeConverters.toFloat)
    validationIndicatorCol = param("validationIndicatorCol", "true for the rows to hold out", TypeConverters.toString)
    seed = param("seed", "of everything random", TypeConverters.toInt)
    customModules = param("customModules", "modules that register the model's custom layers", TypeConverters.toListString)
    trainerOptions = param("trainerOptions", "further arguments of the trainer", plain_options)

    def __init__(self, model: "keras.Model | None" = None, trainer: "str | type[Trainer]" = "ADAG", worker_optimizer: Any = "default",
                 loss: Any = None, metrics: Any = ("accuracy",), *, features_col: Names = "features", label_col: Names = "label",
                 prediction_col: Names = "prediction", num_workers: int | None = None, batch_size: int = 32,
                 communication_window: int | None = None, num_epoch: int = 1, loss_weights: Any = None, shuffle: bool = True,
                 validation_fraction: float | None = None, validation_indicator_col: str | None = None, seed: int = 0,
                 prediction_batch_size: int = 256, custom_modules: list[str] | tuple[str, ...] = (), **options: Any):
        super().__init__()
        given = {
            "trainer": trainer, "loss": loss, "metrics": metrics, "lossWeights": loss_weights, "featuresCol": features_col,
            "labelCol": label_col, "predictionCol": prediction_col, "numWorkers": num_workers, "batchSize": batch_size,
            "communicationWindow": communication_window, "numEpoch": num_epoch, "shuffle": shuffle, "seed": seed,
            "validationFraction": validation_fraction, "validationIndicatorCol": validation_indicator_col,
            "predictionBatchSize": prediction_batch_size, "customModules": list(custom_modules), "trainerOptions": options,
        }  # fmt: skip
        self._set(workerOptimizer=worker_optimizer, **{name: value for name, value in given.items() if value is not None})
        self.parcel = None if model is None else Parcel.pack(model, custom_modules)

    def _fit(self, dataset: DataFrame) -> "KerasModel":
        from dkcore.front import trainer_of

        if self.parcel is None:
            raise ModelError(expected("a Keras model to fit", "none", "Pass it to the constructor: KerasEstimator(model, ...)."))
        training, validation = self.split(dataset)
        trainer = trainer_of(self.getOrDefault("trainer"))(self.parcel.unpack(compile=True), **self.arguments())
        trained = trainer.train(training, shuffle=self.getOrDefault("shuffle"), validation_data=validation)
        fitted = KerasModel(Parcel.pack(trained, self.getOrDefault("customModules")), trainer.report, trainer.history)
        fitted._resetUid(self.uid)  # before the Params, which belong to it
        return self._copyValues(fitted)

    def split(self, dataset: DataFrame) -> tuple[DataFrame, Any]:
        """The rows to train on, and what to give the trainer for validation."""
        given = {name: self.getOrDefault(name) for name in ("validationFraction", "validationIndicatorCol") if self.isDefined(name)}
        if len(given) > 1:
            raise ValueError(expected("one of validation_fraction and validation_indicator_col", "both", "Leave one out."))
        if "validationIndicatorCol" not in given:
            return dataset, given.get("validationFraction")
        held_out = F.coalesce(F.col(given["validationIndicatorCol"]), F.lit(False))
        return dataset.where(~held_out), dataset.where(held_out)

    def arguments(self) -> dict[str, Any]:
        """What the trainer is made with."""
        from dkcore.training import revive

        names = {
            "workerOptimizer": "worker_optimizer", "loss": "loss", "metrics": "metrics", "lossWeights": "loss_weights",
            "featuresCol": "features_col", "labelCol": "label_col", "numWorkers": "num_workers", "batchSize": "batch_size",
            "communicationWindow": "communication_window", "numEpoch": "num_epoch", "seed": "seed", "customModules": "custom_modules",
        }  # fmt: skip
        found = {argument: self.getOrDefault(name) for name, argument in names.items() if self.isDefined(name)}
        revived = {name: revive(found[name]) for name in ("worker_optimizer", "loss", "metrics") if name in found}
        return found | revived | self.getOrDefault("trainerOptions")


class KerasModel(Model, Predictor, WithModel):
    """A trained Keras model, which adds its predictions to a DataFrame; made by ``KerasEstimator.fit``.

    Attributes:
        model: the Keras model.
        report: of the training, as of `dkcore.trainers.Trainer`; None when it is not known.
        history: a table of the exchanges, likewise.
    """

    further = (HISTORY, REPORT)

    def __init__(self, parcel: Parcel | None = None, report: dict | None = None, history: "pyarrow.Table | None" = None):
        super().__init__(parcel)
        self.report, self.history = report, history

    @property
    def model(self) -> "keras.Model":
        return self.parcel.model()

    def getModel(self) -> "keras.Model":
        """`model`, as elephas and others call it."""
        return self.model

    def write_files(self, directory: Path) -> None:
        import pyarrow.parquet

        super().write_files(directory)
        if self.report is not None:
            (directory / REPORT).write_text(json.dumps(self.report))
        if self.history is not None:
            pyarrow.parquet.write_table(self.history, directory / HISTORY)

    def read_files(self, directory: Path) -> None:
        from dkcore import history

        super().read_files(directory)
        if (directory / REPORT).exists():
            self.report = json.loads((directory / REPORT).read_text())
        if (directory / HISTORY).exists():
            self.history = history.read(directory / HISTORY)
