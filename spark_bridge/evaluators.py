"""How good predictions are: evaluators of pyspark.ml, for CrossValidator and for a call of their own. No row is collected."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.ml.evaluation import Evaluator
from pyspark.ml.param.shared import HasLabelCol, HasPredictionCol
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, IntegralType, NumericType

from dkcore.arguments import text, texts
from dkcore.errors import DataError, expected
from dkcore.training import keras_state
from spark_bridge.arguments import named, param
from spark_bridge.arrow import to_numpy
from spark_bridge.column_functions import is_vector, only_row, place_of, to_array
from spark_bridge.model_payload import source, start_keras
from spark_bridge.named import Named
from spark_bridge.numbers_of import as_numbers, depth
from spark_bridge.persistence import Kept
from spark_bridge.pythons import require

__all__ = ["AccuracyEvaluator", "LossEvaluator"]


class ColumnEvaluator(Evaluator, HasLabelCol, HasPredictionCol, Kept):
    """What compares a column of labels with one of predictions."""

    labelCol = param("labelCol", "the column of labels", text)
    predictionCol = param("predictionCol", "the column of predictions", text)

    def __init__(self, label_col: str, prediction_col: str):
        super().__init__()
        for name, value in (("labelCol", label_col), ("predictionCol", prediction_col)):
            self._set(**{name: text(name, value)})  # None too

    def known(self, value: float | None) -> float:
        """The mean; DataError when there was no row to take one of."""
        if value is None:
            raise DataError(expected("rows to evaluate", "none", "The DataFrame is empty."))
        return value


class AccuracyEvaluator(ColumnEvaluator):
    """The share of the rows whose predicted class is that of the label.

    A column of numbers has the classes themselves; one of vectors or arrays has a number for each class (one-hot labels,
    probabilities), of which the greatest counts; an array of one prediction is the probability of class 1. A row that has a null
    or a NaN, in the label, the prediction or an element of them, is a wrong one.
    """

    @named()
    def __init__(self, label_col: str = "label", prediction_col: str = "prediction"):
        super().__init__(label_col, prediction_col)

    def _evaluate(self, dataset: DataFrame) -> float:
        found, label, prediction = Named(dataset), self.getLabelCol(), self.getPredictionCol()
        whole = all(isinstance(found.kind(name), IntegralType) for name in (label, prediction))  # no double has all of 64 bits
        right = class_of(found, label, lambda number: number, whole) == class_of(found, prediction, lambda number: number > 0.5, whole)
        return self.known(only_row(found.frame.select(F.avg(F.coalesce(right, F.lit(False)).cast("double"))))[0])

    def isLargerBetter(self) -> bool:
        return True


def class_of(dataset: Named, name: str, of_one: Any, whole: bool = False) -> Column:
    """The class that each row of a column means, null where it means none. of_one: the class that an array of one number means.

    whole: integers stay what they are; all else becomes double.
    """
    kind, column = dataset.kind(name), dataset.column(name)
    if isinstance(kind, NumericType | BooleanType):
        number = column if whole else column.cast("double")
        return number if whole else F.when(~F.isnan(number), number)
    if not is_vector(kind) and not (isinstance(kind, ArrayType) and isinstance(kind.elementType, NumericType | BooleanType)):
        advice = "Index strings, with LabelIndexTransformer or pyspark.ml's StringIndexer; take numbers of all else."
        raise DataError(expected(f"numbers, arrays or vectors in column {name!r}", kind.simpleString(), advice))
    array = to_array(column) if is_vector(kind) else column.cast("array<double>")
    greatest = place_of(array, F.array_max(array))
    found = F.when(F.size(array) == 1, of_one(array[0]).cast("double")).otherwise(greatest.cast("double"))
    return F.when(F.forall(array, lambda number: number.isNotNull() & ~F.isnan(number)) & (F.size(array) > 0), found)


class LossEvaluator(ColumnEvaluator):
    """The mean over the rows of any of Keras' losses.

    A row whose prediction is null, or whose loss is NaN, counts as infinitely wrong, and so the mean is infinity; a label that is
    null is an error that names its row.

    Args:
        loss: name of one, or a ``keras.losses.Loss``.
        label_col, prediction_col: columns of numbers, arrays or vectors.
        custom_modules: names or files of the modules that register the loss, if it is your own.
    """

    loss = param("loss", "name of a Keras loss, or a serialized one")
    customModules = param("customModules", "modules that register it", texts)

    @named()
    def __init__(
        self,
        loss: Any = "sparse_categorical_crossentropy",
        label_col: str = "label",
        prediction_col: str = "prediction",
        custom_modules: list[str] | tuple[str, ...] = (),
    ):
        from dkcore.training.serialization import serialize

        super().__init__(label_col, prediction_col)
        if loss is None:
            raise TypeError(expected("a loss for LossEvaluator", "None", "Pass the name of one of Keras', or a keras.losses.Loss."))
        self._set(loss=serialize(loss), customModules=custom_modules)

    def _evaluate(self, dataset: DataFrame) -> float:
        import keras

        label, prediction, loss = self.getLabelCol(), self.getPredictionCol(), self.getOrDefault("loss")
        losses(loss)  # an unknown one is refused here
        modules = tuple(map(source, self.getOrDefault("customModules")))
        task = Losses(loss, label, prediction, keras.backend.backend(), modules, keras_state.note())
        found, floats = Named(dataset), keras.config.floatx()
        numbers = [as_numbers(found.column(name), name, found.kind(name), floats) for name in (label, prediction)]
        require(dataset.sparkSession, "keras", task.backend)
        chosen = found.frame.select(numbers[0].alias("y"), filled(numbers[1], depth(found.kind(prediction))).alias("p"))
        partial = chosen.mapInArrow(task, "total double, rows long")
        return self.known(only_row(partial.select(F.sum("total") / F.sum("rows")))[0])

    def isLargerBetter(self) -> bool:
        return False


def losses(loss: Any) -> Any:
    """A function of labels and predictions that gives the loss of each row."""
    import keras

    if isinstance(loss, dict) and isinstance(loss.get("config"), dict) and "reduction" in loss["config"]:
        loss = {**loss, "config": {**loss["config"], "reduction": None}}
    return keras.losses.get(loss)


def filled(column: Column, depth: int) -> Column:
    """The column with NaN for the nulls within its arrays."""
    if depth > 1:
        return F.transform(column, lambda element: filled(element, depth - 1))
    return F.transform(column, lambda element: F.coalesce(element.cast("double"), F.lit(math.nan))) if depth else column


@dataclass(frozen=True)
class Losses:
    """A function for ``mapInArrow``, of columns y and p: the sum of the losses of each batch, and its rows."""

    loss: Any
    label: str
    prediction: str
    backend: str
    modules: tuple[tuple[str, str | None], ...]
    state: dict[str, Any]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        start_keras(self.backend, self.modules, self.state)
        loss, context, first = losses(self.loss), TaskContext.get(), 0
        partition = 0 if context is None else context.partitionId()
        for batch in batches:
            if batch.num_rows == 0:
                continue
            labels, predictions = batch.columns
            y = to_numpy(labels, self.label, first=first, partition=partition)
            known = predictions.is_valid()
            p = to_numpy(predictions.filter(known), self.prediction, first=first, partition=partition)
            total = self.total(loss, y[known.to_numpy(zero_copy_only=False)], p) if len(p) == len(y) else math.inf
            yield pa.RecordBatch.from_arrays([pa.array([total], pa.float64()), pa.array([len(y)])], ["total", "rows"])
            first += batch.num_rows

    def total(self, loss: Any, y: np.ndarray, p: np.ndarray) -> float:
        """The sum over the rows, of which NaN is the worst."""
        import keras

        p = floats(p)
        y = floats(y) if y.dtype.kind == "f" else y.copy()
        if p.ndim == 1:
            p = p[:, None]  # of one axis alone a loss is the mean
        if y.ndim == 1 and p.shape[1:] == (1,):
            y = y[:, None]
        mean = float(keras.ops.convert_to_numpy(loss(y, p)).astype("float64").mean())
        return math.inf if math.isnan(mean) else mean * len(y)


def floats(array: np.ndarray) -> np.ndarray:
    """A copy of the dtype that Keras computes with; the original may be read-only, of which torch complains."""
    import keras

    return array.astype(keras.config.floatx())
