"""A Keras model as a stage of pyspark.ml that adds a column of predictions to a DataFrame, streaming ones included."""

from typing import TYPE_CHECKING, Any

from pyspark import Broadcast
from pyspark.ml import Transformer
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.sql import Column, DataFrame
from pyspark.sql.types import ArrayType, DataType, FloatType, StructField, StructType

from dkcore.data import leaves, map_arrays
from dkcore.errors import DataError, ModelError, expected
from spark_bridge.columns import Columns, Names, as_numbers, numeric
from spark_bridge.inference import Inference, Place
from spark_bridge.parcel import Parcel

if TYPE_CHECKING:
    import keras

__all__ = ["ModelPredictor", "PredictionParams", "Predictor"]


class PredictionParams(Params):
    """What a predictor has to know, and an estimator that makes one."""

    featuresCol = Param(Params._dummy(), "featuresCol", "columns of the model's inputs: a name, a list, or a dict by input")
    predictionCol = Param(Params._dummy(), "predictionCol", "columns for the model's outputs: a name, a list, or a dict by output")
    predictionBatchSize = Param(
        Params._dummy(), "predictionBatchSize", "rows that the model sees at once", typeConverter=TypeConverters.toInt
    )

    def __init__(self):
        super().__init__()
        self._setDefault(featuresCol="features", predictionCol="prediction", predictionBatchSize=256)


class Predictor(Transformer, PredictionParams):
    """What adds predictions: the Params, and the model in a parcel."""

    def __init__(self, parcel: Parcel | None = None):
        super().__init__()
        self.parcel = parcel
        self.sent: Broadcast | None = None

    def _transform(self, dataset: DataFrame) -> DataFrame:
        outputs, batch_size = self.getOrDefault("predictionCol"), self.getOrDefault("predictionBatchSize")
        if batch_size < 1:
            raise ValueError(expected("a batch size of 1 or more", batch_size, "Pass batch_size=256."))
        new = list(zip(names_of(outputs), depths(self.parcel.axes, outputs), strict=True))
        if taken := [name for name, _ in new if name in dataset.columns]:
            raise ValueError(expected("new columns for predictions", f"{taken[0]!r}, which is there", "Drop it, or name another."))
        places, more = inputs(dataset, self.getOrDefault("featuresCol"))
        keys = list(outputs) if isinstance(outputs, dict) else None
        task = Inference(self.broadcast(dataset), places, len(dataset.columns), new, keys, batch_size)
        schema = StructType([*dataset.schema.fields, *(StructField(name, array_of(depth)) for name, depth in new)])
        return dataset.select("*", *more).mapInArrow(task, schema)

    def broadcast(self, dataset: DataFrame) -> Broadcast:
        """The parcel, for all executors; it is sent once."""
        context = dataset.sparkSession.sparkContext
        if self.sent is None or self.sent._sc is not context:
            self.sent = context.broadcast(self.parcel)
        return self.sent


class ModelPredictor(Predictor):
    """Adds the model's predictions to a DataFrame: an array of floats a row, nested where the model gives more than a vector.

    Args:
        keras_model: a built Keras model.
        features_col: the column of its input; a list of them, in the order of its inputs; or a dict by the inputs' names. They
            are of numbers, arrays or vectors.
        output_col: the new column; a list for a model of several outputs, in their order, or a dict by their names.
        batch_size: rows that the model sees at once.
        custom_modules: names or files of the modules that register the model's custom layers; single files travel along.

    Raises:
        ModelError: no Keras model, or not as many outputs as columns. DataError: a column that is no input, or a null in it.
    """

    def __init__(self, keras_model: "keras.Model", features_col: Names = "features", output_col: Names = "prediction",
                 batch_size: int = 256, custom_modules: list[str] | tuple[str, ...] = ()):
        super().__init__(Parcel.pack(keras_model, custom_modules))
        self._set(featuresCol=features_col, predictionCol=output_col, predictionBatchSize=batch_size)

    def predict(self, dataframe: DataFrame) -> DataFrame:
        """`transform`, as dist-keras calls it."""
        return self.transform(dataframe)


def names_of(columns: Names) -> list[str]:
    return [name for _, name in leaves(columns)]


def depths(axes: list[int] | dict[str, int] | None, columns: Names) -> list[int]:
    """How deep the lists of each new column are, of the axes of the model's outputs (`Parcel.axes`)."""
    if isinstance(columns, dict):
        if not isinstance(axes, dict) or axes.keys() != columns.keys():
            known = list(axes) if isinstance(axes, dict) else "outputs without names"
            raise ModelError(expected(f"a model with outputs named {list(columns)}", known, "Name the columns in a list instead."))
        axes = [axes[name] for name in columns]
    elif isinstance(axes, dict):
        axes = [axes[name] for name in sorted(axes)]  # the order in which Keras flattens them
    count = len(names_of(columns))
    axes = [1] * count if axes is None else axes
    if len(axes) != count:
        raise ModelError(expected(f"a column for each of the model's {len(axes)} outputs", columns, "Pass output_col a list of them."))
    return [max(axis, 1) for axis in axes]


def array_of(depth: int) -> DataType:
    return ArrayType(array_of(depth - 1) if depth > 1 else FloatType())


def inputs(dataset: DataFrame, features: Names) -> tuple[Any, list[Column]]:
    """Where the model's inputs are (the structure of features, of `Place`), and columns to append that have them as numbers."""
    fields, more = dataset.schema.fields, []

    def place(_: str, name: str) -> Place:
        found = [index for index, field in enumerate(fields) if field.name == name]
        if len(found) != 1:
            received = f"{len(found)} of that name among {dataset.columns}"
            raise DataError(expected(f"a column {name!r}", received, "Name the columns of the model's inputs."))
        kind = fields[found[0]].dataType
        column = as_numbers(dataset, name, kind)
        if numeric(kind) == kind.simpleString():
            return Place(name, found[0])
        more.append(column.alias(f"dkcore input {len(more)}"))
        return Place(name, len(fields) + len(more) - 1)

    return map_arrays(place, Columns(features, features).features, "features"), more
