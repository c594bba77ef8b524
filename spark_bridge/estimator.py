"""Training as a stage of pyspark.ml: an estimator that fits a Keras model to a DataFrame, and the model that it gives.

In a script::

    estimator = KerasEstimator(model, "AEASGD", "adam", "sparse_categorical_crossentropy", num_epoch=5)
    predicted = estimator.fit(df).transform(others)
"""

import json
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.ml import Estimator, Model
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType

from dkcore.arguments import fraction, plain, text
from dkcore.errors import DataError, ModelError, expected
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import Synchronous
from dkcore.registry import plain_rule, rule_of
from dkcore.settings.keywords import documented, keywords_of, names_of, with_settings
from dkcore.settings.setting import Setting, camel
from spark_bridge.arguments import named, nearest, param
from spark_bridge.columns import Names
from spark_bridge.model_payload import FILE, SIDECAR, ModelPayload
from spark_bridge.named import Named
from spark_bridge.persistence import WithModel
from spark_bridge.predictors import PredictionParams, Predictor, names

if TYPE_CHECKING:
    import keras
    import pyarrow

    from dkcore.trainers import Trainer

__all__ = ["KerasEstimator", "KerasModel"]

HISTORY, REPORT = "history.parquet", "report.json"


def name_of(_: str, trainer: Any) -> str:
    """The name of a trainer, which may be given as a class."""
    from dkcore.commands.options import trainer_of

    name = getattr(trainer, "__name__", trainer)
    if not isinstance(name, str):
        raise TypeError(expected("the name or the class of a trainer", repr(trainer), "Pass trainer='ADAG', for instance."))
    trainer_of(name)  # refuses what is none
    return name


def plain_object(value: Any) -> Any:
    """Objects of Keras as plain data, which can be saved."""
    from dkcore.training.serialization import serialize

    return serialize(plain(value))


def plain_options(_: str, options: dict[str, Any]) -> dict[str, Any]:
    return {name: plain_rule(value) if isinstance(value, Rule | Synchronous) else plain_object(value) for name, value in options.items()}


def converter_of(setting: Setting) -> Callable[[str, Any], Any]:
    """The converter of the Param for a setting: its check, under the Param's name."""

    def convert(name: str, value: Any) -> Any:
        value = plain_object(value) if setting.objects else value
        return None if value is None else setting.check(name, value)

    return convert


def settings_as_params(estimator: type) -> type:
    """Decorates a class: it gets a Param for each setting of a Job that has one."""
    for each, argument in keywords_of("param"):
        name = camel(argument.name)
        setattr(estimator, name, param(name, each.sentences(), converter_of(each)))
    return estimator


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The values to set Params to, not those that are left open; TypeError for None where there is a default."""
    defaults = {name: each.default for name, each in signature(KerasEstimator.__init__).parameters.items()}
    none = [name for name, value in values.items() if value is None and name != "worker_optimizer"]  # its None: the compiled model's
    if missing := [name for name in none if defaults[name] is not None]:
        raise TypeError(expected(f"{missing[0]} of KerasEstimator", "None", "Leave it out for the default."))
    return {name: value for name, value in values.items() if name not in none}


@documented(front="param")
@settings_as_params
class KerasEstimator(Estimator["KerasModel"], PredictionParams, WithModel):
    """Trains a Keras model on a DataFrame, in ranks on Spark's executors; ``fit`` returns a `KerasModel`.

    Args:
        model: a built Keras model; it stays as it is.
        trainer: name or class of a trainer of `dkcore.trainers`, or a rule or its name: built in, or your own.
        {arguments of settings}
        features_col, label_col: a column, a list of them in the order of the model's inputs or outputs, or a dict by their names;
            the numbers of a list for a single input are put together. weight_col: of sample weights, if there is one.
        prediction_col: the column, or columns, that the `KerasModel` adds; prediction_batch_size: rows that it sees at once.
        validation_fraction: of the rows, held out for tests after each epoch; or validation_indicator_col: a boolean column that
            is true for the rows to hold out.
        options: all further arguments of the trainer, such as ``alpha=0.3`` or ``max_restarts=2``.

    All but the model are Params, for grids: ``numEpoch``, ``batchSize``, ``workerOptimizer``, ``trainerOptions`` ... Arguments may
    have their names too.
    """

    trainer = param("trainer", "name of a trainer or a rule", name_of)
    labelCol = param("labelCol", "columns of the labels: a name, a list, or a dict by output", names)
    weightCol = param("weightCol", "column of the sample weights", text)
    validationFraction = param("validationFraction", "of the rows, held out for tests", fraction)
    validationIndicatorCol = param("validationIndicatorCol", "true for the rows to hold out", text)
    trainerOptions = param("trainerOptions", "further arguments of the trainer", plain_options)

    @named(keras_model="model")
    @with_settings(start="prediction_col", front="param")
    def __init__(self, model: "keras.Model | None" = None, trainer: "str | type[Trainer] | Rule | Synchronous" = "ADAG",
                 worker_optimizer: Any = "default", loss: Any = None, metrics: Any = None, *,
                 features_col: Names = "features", label_col: Names = "label", weight_col: str | None = None,
                 prediction_col: Names = "prediction", validation_fraction: float | None = None,
                 validation_indicator_col: str | None = None, prediction_batch_size: int = 256, **options: Any):  # fmt: skip
        super().__init__()
        if isinstance(trainer, Rule | Synchronous):
            trainer, options = "Trainer", {"rule": trainer, **options}
        options |= {"worker_optimizer": worker_optimizer, "loss": loss, "metrics": metrics}
        values = {argument.name: options.pop(argument.name, argument.default) for _, argument in keywords_of("param")}
        values |= {
            "trainer": trainer, "features_col": features_col, "label_col": label_col, "weight_col": weight_col,
            "prediction_col": prediction_col, "validation_fraction": validation_fraction,
            "validation_indicator_col": validation_indicator_col, "prediction_batch_size": prediction_batch_size,
        }  # fmt: skip
        self._set(trainerOptions=options, **{camel(name): value for name, value in given(values).items()})
        self.validate_options()
        safe = options.get("safe_mode", True)
        self.payload = None if model is None else ModelPayload.pack(model, values["custom_modules"], safe_mode=safe)
        if model is not None:
            self.trainer_for(model)  # what it refuses is refused here

    def validate_options(self) -> None:
        """TypeError for an option that is no argument of the trainer, and no scalar of its rule."""
        from dkcore.commands.options import trainer_of

        options, kind = self.getOrDefault("trainerOptions"), trainer_of(self.getOrDefault("trainer"))
        known = {*names_of(kind), *rule_of(options.get("rule") or kind.rule).scalars} - {"keras_model"}
        for name in options:
            if name not in known:
                what = f"an argument of KerasEstimator, of {kind.__name__} or of its rule"
                advice = nearest(name, sorted(known | {*names_of(type(self))}))
                raise TypeError(expected(what, f"{name}=, which is none", advice))

    def trainer_for(self, model: "keras.Model") -> "Trainer":
        """The trainer that these Params ask for; what cannot be meant is refused."""
        from dkcore.commands.options import trainer_of
        from spark_bridge.dataframe import validate_placement

        trainer = trainer_of(self.getOrDefault("trainer"))(model, **self.arguments())
        validate_placement(trainer.request())
        return trainer

    def _fit(self, dataset: DataFrame) -> "KerasModel":
        if self.payload is None:
            raise ModelError(expected("a Keras model to fit", "none", "Pass it to the constructor: KerasEstimator(model, ...)."))
        self.validate_options()
        training, validation = self.split(dataset)
        trainer = self.trainer_for(self.payload.unpack(compile=True))
        trained = trainer.train(training, shuffle=self.getOrDefault("shuffle"), validation_data=validation)
        payload = ModelPayload.pack(trained, self.getOrDefault("customModules"), safe_mode=self.payload.safe_mode)
        fitted = KerasModel(payload, trainer.report, trainer.history)
        fitted._resetUid(self.uid)  # before the Params, which belong to it
        return self._copyValues(fitted)

    def split(self, dataset: DataFrame) -> tuple[DataFrame, Any]:
        """The rows to train on, and what to give the trainer for validation."""
        given = {name: self.getOrDefault(name) for name in ("validationFraction", "validationIndicatorCol") if self.isDefined(name)}
        if len(given) > 1:
            raise ValueError(expected("one of validation_fraction and validation_indicator_col", "both", "Leave one out."))
        if "validationIndicatorCol" not in given:
            return dataset, given.get("validationFraction")
        found, name = Named(dataset), given["validationIndicatorCol"]
        if not isinstance(found.kind(name), BooleanType):
            what = f"booleans in column {name!r}, which says what to hold out"
            raise DataError(expected(what, found.kind(name).simpleString(), "Make it one by a comparison."))
        held_out = F.coalesce(found.column(name), F.lit(False))
        return found.where_true(~held_out), found.where_true(held_out)

    def arguments(self) -> dict[str, Any]:
        """What the trainer is made with."""
        from dkcore.training.serialization import revive

        objects = {each.keyword.name for each, _ in keywords_of("param") if each.objects and each.keyword}
        taken = [each.keyword.name for each, _ in keywords_of("param") if each.keyword and not each.keyword.train]
        names = {name: camel(name) for name in (*taken, "features_col", "label_col", "weight_col")}
        found = {name: self.getOrDefault(param) for name, param in names.items() if self.isDefined(param)}
        revived = {name: revive(found[name]) for name in objects & set(found)}
        options: dict[str, Any] = self.getOrDefault("trainerOptions")
        return found | revived | options


class KerasModel(Model, Predictor, WithModel):
    """A trained Keras model, which adds its predictions to a DataFrame; made by ``KerasEstimator.fit``.

    Attributes:
        model: the Keras model, compiled as it was trained.
        report: of the training, as of `dkcore.trainers.Trainer`; None when it is not known.
        history: a table of the exchanges, likewise.
    """

    further = (FILE, SIDECAR, HISTORY, REPORT)

    def __init__(self, payload: ModelPayload | None = None, report: dict[str, Any] | None = None, history: "pyarrow.Table | None" = None):
        super().__init__(payload)
        self.report, self.history = report, history
        self.trained: keras.Model | None = None

    @property
    def model(self) -> "keras.Model":
        if self.trained is None:
            if self.payload is None:
                advice = "Fit a KerasEstimator, or call KerasModel.load."
                raise ModelError(expected("a fitted or loaded KerasModel", "an empty one", advice))
            self.trained = self.payload.unpack(compile=True)
        return self.trained

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
        from dkcore.report import history

        super().read_files(directory)
        if (directory / REPORT).exists():
            self.report = json.loads((directory / REPORT).read_text())
        if (directory / HISTORY).exists():
            self.history = history.read(directory / HISTORY)
