"""How good predictions are: evaluators of pyspark.ml, for CrossValidator and for a call of their own. No row is collected."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.ml.evaluation import Evaluator
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasLabelCol, HasPredictionCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, NumericType

from dkcore.errors import DataError, expected
from spark_bridge.arrow import to_numpy
from spark_bridge.columns import Columns
from spark_bridge.parcel import source, start_keras
from spark_bridge.transformers import is_vector, place_of, to_array, type_of

__all__ = ["AccuracyEvaluator", "LossEvaluator"]


class ColumnEvaluator(Evaluator, HasLabelCol, HasPredictionCol, DefaultParamsReadable, DefaultParamsWritable):
    """What compares a column of labels with one of predictions."""

    def __init__(self, label_col: str, prediction_col: str):
        super().__init__()
        self._set(labelCol=label_col, predictionCol=prediction_col)

    def known(self, value: float | None) -> float:
        """The mean; DataError when there was no row to take one of."""
        if value is None:
            raise DataError(expected("rows to evaluate", "none", "Is the DataFrame empty?"))
        return value


class AccuracyEvaluator(ColumnEvaluator):
    """The share of the rows whose predicted class is that of the label.

    A column of numbers has the classes themselves; one of vectors or arrays has a number for each class (one-hot labels,
    probabilities), of which the greatest counts; an array of one prediction is the probability of class 1. A row with a null is
    a wrong one.
    """

    def __init__(self, label_col: str = "label", prediction_col: str = "prediction"):
        super().__init__(label_col, prediction_col)

    def _evaluate(self, dataset: DataFrame) -> float:
        label, prediction = self.getLabelCol(), self.getPredictionCol()
        right = class_of(dataset, label, lambda number: number) == class_of(dataset, prediction, lambda number: number > 0.5)
        return self.known(dataset.select(F.avg(F.coalesce(right, F.lit(False)).cast("double"))).first()[0])

    def isLargerBetter(self) -> bool:
        return True


def class_of(dataset: DataFrame, name: str, of_one: Any) -> Column:
    """The class that each row of a column means. of_one: the class that an array of one number means."""
    kind, column = type_of(dataset, name), F.col(name)
    if isinstance(kind, NumericType | BooleanType):
        return column.cast("double")
    if not is_vector(kind) and not (isinstance(kind, ArrayType) and isinstance(kind.elementType, NumericType | BooleanType)):
        raise DataError(expected(f"numbers, arrays or vectors in column {name!r}", kind.simpleString(), "Index it, or take its parts."))
    array = to_array(column) if is_vector(kind) else column.cast("array<double>")
    greatest = place_of(array, F.array_max(array))
    return F.when(F.size(array) == 1, of_one(array[0]).cast("double")).otherwise(greatest.cast("double"))


class LossEvaluator(ColumnEvaluator):
    """The mean over the rows of any of Keras' losses.

    Args:
        loss: name of one, or a ``keras.losses.Loss``.
        label_col, prediction_col: columns of numbers, arrays or vectors.
        custom_modules: names or files of the modules that register the loss, if it is your own.
    """

    loss = Param(Params._dummy(), "loss", "name of a Keras loss, or a serialized one")
    customModules = Param(Params._dummy(), "customModules", "modules that register it", typeConverter=TypeConverters.toListString)

    def __init__(self, loss: Any = "sparse_categorical_crossentropy", label_col: str = "label", prediction_col: str = "prediction",
                 custom_modules: list[str] | tuple[str, ...] = ()):
        from dkcore.trainers import serialize

        super().__init__(label_col, prediction_col)
        self._set(loss=serialize(loss), customModules=list(custom_modules))

    def _evaluate(self, dataset: DataFrame) -> float:
        import keras

        label, prediction, loss = self.getLabelCol(), self.getPredictionCol(), self.getOrDefault("loss")
        losses(loss)  # an unknown one is refused here
        modules = tuple(map(source, self.getOrDefault("customModules")))
        task = Losses(loss, label, prediction, keras.backend.backend(), modules)
        chosen = dataset.select(*Columns(prediction, label).selected(dataset, "the DataFrame"))
        partial = chosen.mapInArrow(task, "total double, rows long")
        return self.known(partial.select(F.sum("total") / F.sum("rows")).first()[0])

    def isLargerBetter(self) -> bool:
        return False


def losses(loss: Any) -> Any:
    """A function of labels and predictions that gives the loss of each row."""
    import keras

    if isinstance(loss, dict) and isinstance(loss.get("config"), dict) and "reduction" in loss["config"]:
        loss = {**loss, "config": {**loss["config"], "reduction": None}}
    return keras.losses.get(loss)


@dataclass(frozen=True)
class Losses:
    """A function for ``mapInArrow``: the sum of the losses of each batch, and its rows."""

    loss: Any
    label: str
    prediction: str
    backend: str
    modules: tuple

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        start_keras(self.backend, self.modules)
        import keras

        loss, partition, first = losses(self.loss), TaskContext.get().partitionId(), 0
        for batch in batches:
            if batch.num_rows == 0:
                continue
            y, p = (to_numpy(batch.column(name), name, first=first, partition=partition) for name in (self.label, self.prediction))
            p = floats(p)
            y = floats(y) if y.dtype.kind == "f" else y.copy()
            if p.ndim == 1:
                p = p[:, None]  # of one axis alone a loss is the mean
            if y.ndim == 1 and p.shape[1:] == (1,):
                y = y[:, None]
            mean = keras.ops.convert_to_numpy(loss(y, p)).astype("float64").mean()
            yield pa.RecordBatch.from_arrays([pa.array([mean * batch.num_rows]), pa.array([batch.num_rows])], ["total", "rows"])
            first += batch.num_rows


def floats(array: np.ndarray) -> np.ndarray:
    """A copy of the dtype that Keras computes with; the original may be read-only, of which torch complains."""
    import keras

    return array.astype(keras.config.floatx())
