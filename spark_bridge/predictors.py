"""A Keras model as a stage of pyspark.ml that adds a column of predictions to a DataFrame, streaming ones included."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyspark import Broadcast
from pyspark.ml import Transformer
from pyspark.ml.param import Params
from pyspark.sql import Column, DataFrame
from pyspark.sql.types import ArrayType, BooleanType, DataType, DoubleType, FloatType, LongType, StringType, StructField, StructType

from dkcore.arguments import count, plain
from dkcore.data.arrays import leaves, map_arrays
from dkcore.errors import ModelError, expected
from spark_bridge.arguments import named, param
from spark_bridge.columns import Columns, Names
from spark_bridge.inference import Inference, Place
from spark_bridge.model_payload import ModelPayload
from spark_bridge.named import Named, quoted
from spark_bridge.numbers_of import numeric
from spark_bridge.pythons import require
from spark_bridge.signature import End, Port

if TYPE_CHECKING:
    import keras

__all__ = ["ModelPredictor", "PredictionParams", "Predictor", "names"]

KINDS = {"float32": FloatType, "float64": DoubleType, "int64": LongType, "bool": BooleanType}  # of predictions


def names(name: str, value: Any) -> Any:
    """Names of columns: one, a list of them, or a dict; TypeError for anything else."""
    what = {"featuresCol": "features", "labelCol": "label", "predictionCol": "predictions"}[name]
    found = [each for _, each in leaves(value)]
    if not found or not all(isinstance(each, str) and each for each in found):
        advice = "Pass one name, a list of them, or a dict from the model's inputs or outputs to one."
        raise TypeError(expected(f"names of columns for {what}", repr(value), advice))
    return plain(value)


class PredictionParams(Params):
    """What a predictor has to know, and an estimator that makes one."""

    featuresCol = param("featuresCol", "columns of the model's inputs: a name, a list, or a dict by input", names)
    predictionCol = param("predictionCol", "columns for the model's outputs: a name, a list, or a dict by output", names)
    predictionBatchSize = param("predictionBatchSize", "rows that the model sees at once", lambda _, value: count("batch size", value))

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(featuresCol="features", predictionCol="prediction", predictionBatchSize=256)


class Predictor(Transformer, PredictionParams):
    """What adds predictions: the Params, and the model in a payload."""

    def __init__(self, payload: ModelPayload | None = None):
        super().__init__()
        self.payload = payload
        self.sent: Broadcast[ModelPayload] | None = None

    def _transform(self, dataset: DataFrame) -> DataFrame:
        columns, payload = self.getOrDefault("predictionCol"), self.payload
        if payload is None:
            raise ModelError(expected("a Keras model to predict with", "none", "Fit a KerasEstimator, or load a KerasModel."))
        new, keys = outputs(payload, columns)
        found = Named(dataset)
        if taken := [name for name, *_ in new if name in found.names]:
            raise ValueError(expected("new columns for predictions", f"{taken[0]!r}, which is there", "Drop it, or name another."))
        places, more = inputs(found, Columns(self.getOrDefault("featuresCol"), "none").fitted(payload.inputs, None), payload.floats)
        require(dataset.sparkSession, "keras", payload.backend)
        kept, size = len(found.names), self.getOrDefault("predictionBatchSize")
        pairs = [(name, depth) for name, depth, _ in new]
        task = Inference(self.broadcast(dataset, payload), places, kept, pairs, keys, size, tuple(dtype for *_, dtype in new))
        # Spark takes dots in names for fields of structs on this way: numbers for names have none.
        columns = [found.frame[quoted(name)] for name in found.frame.columns]
        frame = found.frame.select(*map(carried, columns, found.fields), *more)
        frame = frame.toDF(*(f"column {place}" for place in range(kept + len(more))))
        fields = [*found.fields, *(StructField(name, array_of(depth, KINDS[dtype]())) for name, depth, dtype in new)]
        kinds = [StringType() if by_text(field.dataType) else field.dataType for field in fields]
        sent = enumerate(zip(kinds, fields, strict=True))
        schema = [StructField(f"column {place}", kind, field.nullable, field.metadata) for place, (kind, field) in sent]
        out = frame.mapInArrow(task, StructType(schema))
        if any(by_text(field.dataType) for field in fields):
            out = out.select(*(restored(out[name], field) for name, field in zip(out.columns, fields, strict=True)))
        return out.toDF(*(field.name for field in fields))

    def broadcast(self, dataset: DataFrame, payload: ModelPayload) -> Broadcast[ModelPayload]:
        """The payload, for all executors; it is sent once."""
        context = dataset.sparkSession.sparkContext
        if self.sent is None or self.sent._sc is not context:
            self.sent = context.broadcast(payload)
        return self.sent


class ModelPredictor(Predictor):
    """Adds the model's predictions to a DataFrame: an array of floats a row, nested where the model gives more than a vector.

    Args:
        keras_model: a built Keras model.
        features_col: the column of its input; a list of them, in the order of its inputs; or a dict by the inputs' names. They
            are of numbers, arrays or vectors; for a single input the numbers of a list are put together.
        output_col: the new column; a list for a model of several outputs, in their order, or a dict by their names.
        batch_size: rows that the model sees at once.
        custom_modules: names or files of the modules that register the model's custom layers; single files travel along.
        safe_mode: False lets layers run code that is stored in the model, as for ``keras.saving.load_model``.

    Raises:
        ModelError: no Keras model, or not as many outputs as columns. DataError: a column that is no input, or a null in it.
    """

    @named(predictionCol="output_col", prediction_col="output_col", outputCol="output_col", predictionBatchSize="batch_size",
           prediction_batch_size="batch_size", model="keras_model")  # fmt: skip
    def __init__(
        self,
        keras_model: "keras.Model",
        features_col: Names = "features",
        output_col: Names = "prediction",
        batch_size: int = 256,
        custom_modules: list[str] | tuple[str, ...] = (),
        safe_mode: bool = True,
    ):
        super().__init__(ModelPayload.pack(keras_model, custom_modules, safe_mode=safe_mode))
        for name, value in (("features_col", features_col), ("output_col", output_col), ("batch_size", batch_size)):
            if value is None:
                raise TypeError(expected(f"{name} of ModelPredictor", "None", "Leave it out for the default."))
        self._set(featuresCol=features_col, predictionCol=output_col, predictionBatchSize=batch_size)

    def predict(self, dataframe: DataFrame) -> DataFrame:
        """`transform`, as dist-keras calls it."""
        return self.transform(dataframe)


def outputs(payload: ModelPayload, columns: Names) -> tuple[list[tuple[str, int, str]], list[str] | None]:
    """Of each new column its name, its depth of lists and its dtype; and the keys of a model that gives a dict, in that order."""
    end: End | None = payload.outputs
    chosen: list[tuple[str, Port | None]]
    if isinstance(columns, Mapping):
        known = "outputs without names" if end is None else [port.name for port in end.ports]
        if end is None or set(columns) != set(known):
            raise ModelError(expected(f"a model with outputs named {list(columns)}", known, "Name the columns in a list instead."))
        chosen = [(columns[port.name], port) for port in end.ports]
    else:
        listed = [columns] if isinstance(columns, str) else list(columns)
        if end is not None and len(listed) != len(end.ports):
            what = f"a column for each of the model's {len(end.ports)} outputs"
            raise ModelError(expected(what, columns, "Pass output_col a list of them."))
        ports: Sequence[Port | None] = end.ports if end else [None] * len(listed)
        chosen = list(zip(listed, ports, strict=True))
    if len({name for name, _ in chosen}) < len(chosen):
        raise ModelError(expected("columns of different names for the model's outputs", columns, "Name each output apart."))
    new = [(name, max(len(port.shape), 1) if port else 1, dtype_of(port.dtype if port else payload.floats)) for name, port in chosen]
    return new, [port.name for port in end.ports] if end and end.keys else None


def dtype_of(dtype: str) -> str:
    """Of a column for outputs of a dtype of Keras': of all that there is, so that values keep their meaning."""
    if dtype == "bool":
        return dtype
    if dtype.startswith(("int", "uint")):
        return "int64"
    return "float64" if dtype == "float64" else "float32"


def by_text(kind: DataType) -> bool:
    """Whether Arrow has no such type, as of intervals of months: it is a string on the way."""
    return kind.simpleString() == "interval" or kind.simpleString().startswith(("interval year", "interval month"))


def carried(column: Column, field: StructField) -> Column:
    return column.cast("string") if by_text(field.dataType) else column


def restored(column: Column, field: StructField) -> Column:
    return column.cast(field.dataType.simpleString()) if by_text(field.dataType) else column


def array_of(depth: int, element: DataType) -> DataType:
    return ArrayType(array_of(depth - 1, element) if depth > 1 else element)


def inputs(dataset: Named, columns: Columns, floats: str) -> tuple[Any, list[Column]]:
    """Where the model's inputs are (the structure of features, of `Place`), and columns to append that have them as numbers."""
    more: list[Column] = []

    def place(_: str, name: str) -> Place:
        _, port, shape = columns.wanted.get(name, ("", "", None))
        column = columns.numbers(dataset, name, floats)
        if name not in columns.joined:
            path, kind = dataset.path(name), dataset.kind(name)
            if len(path) == 1 and numeric(kind, name, floats) == kind.simpleString():
                return Place(name, path[0], port, shape)
        more.append(column.alias(f"dkcore input {len(more)}"))
        return Place(name, len(dataset.names) + len(more) - 1, port, shape)

    return map_arrays(place, columns.features, "features"), more
