"""What predicts on an executor: Arrow batches in, the same with predictions out. The model is loaded once a process."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark import TaskContext

from dkcore.arrays import Array
from dkcore.data.arrays import map_arrays
from dkcore.errors import DataError, ModelError, expected
from spark_bridge.arrow import to_arrow, to_numpy
from spark_bridge.signature import fits

if TYPE_CHECKING:
    import keras
    from pyspark import Broadcast

    from spark_bridge.model_payload import ModelPayload

__all__ = ["Inference", "Place", "read"]


@dataclass(frozen=True)
class Place:
    """A column that the model sees: its name, its number in the batches; and of the model's input, if known, name and shape."""

    name: str
    index: int
    port: str = ""
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class Inference:
    """A function for ``mapInArrow``.

    payload: a `ModelPayload`. places: the structure of the model's inputs, of `Place`. kept: how many columns of
    the batches are handed on. outputs: of each new column its name and its depth of lists. keys: the names of the model's outputs
    in that order, if they have names. batch_size: rows that the model sees at once. dtypes: of the new columns, float32 by default.
    """

    payload: "Broadcast[ModelPayload]"
    places: Any
    kept: int
    outputs: list[tuple[str, int]]
    keys: list[str] | None
    batch_size: int
    dtypes: tuple[str, ...] = ()

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context, first = TaskContext.get(), 0
        partition = 0 if context is None else context.partitionId()
        for batch in batches:
            new = [pa.array([], list_of(depth, dtype)) for (_, depth), dtype in zip(self.outputs, self.kinds, strict=True)]
            if batch.num_rows:
                x = read(batch, self.places, first, partition)
                new = [to_arrow(output) for output in self.predict(self.payload.value.model(), x, batch.num_rows)]
            names = [*batch.schema.names[: self.kept], *(name for name, _ in self.outputs)]
            yield pa.RecordBatch.from_arrays([*batch.columns[: self.kept], *new], names)
            first += batch.num_rows

    @property
    def kinds(self) -> tuple[str, ...]:
        return self.dtypes or ("float32",) * len(self.outputs)

    def predict(self, model: "keras.Model", x: Any, rows: int) -> list[Array]:
        """The outputs for all rows."""
        parts: list[list[Array]] = []
        for start in range(0, rows, self.batch_size):
            count = min(self.batch_size, rows - start)
            # To a power of two: the model is compiled for each new size.
            size = min(self.batch_size, 1 << (count - 1).bit_length())
            chosen = np.minimum(np.arange(start, start + size), start + count - 1)
            found = self.in_order(model.predict_on_batch(map_arrays(lambda _, leaf: numbers(leaf, chosen), x, "features")))  # noqa: B023
            named = zip(found, self.outputs, self.kinds, strict=True)
            parts.append([self.shaped(output[:count], depth, dtype) for output, (_, depth), dtype in named])
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def in_order(self, result: Any) -> list[Array]:
        import keras

        found: list[Array] = [result[key] for key in self.keys] if self.keys else keras.tree.flatten(result)
        if len(found) != len(self.outputs):
            what = f"{len(self.outputs)} outputs of the model, as many as columns"
            raise ModelError(expected(what, len(found), "Pass a list of columns."))
        return found

    def shaped(self, output: Any, depth: int, dtype: str) -> Array:
        """An output as an array of the depth that its column has; a number a row becomes a vector of one."""
        import keras

        array: Array = keras.ops.convert_to_numpy(output).astype(dtype, copy=False)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != depth + 1:
            advice = "Wrap a subclass of Model into a functional one, which knows the shape: keras.Model(x, model(x))."
            raise ModelError(expected(f"an output of {depth} axes beside that of the samples", array.ndim - 1, advice))
        return array


def read(batch: pa.RecordBatch, places: Any, first: int, partition: int) -> Any:
    """The columns of a batch as arrays, in the structure of places; first: the number of its first row in the partition.

    DataError when an array is not what the model's input is.
    """

    def array_of(_: str, place: Place) -> Array:
        array = to_numpy(batch.column(place.index), place.name, first=first, partition=partition)
        if place.shape is not None and not fits(array.shape[1:], place.shape):
            what = f"elements of shape {place.shape} in column {place.name!r}, as the model's input {place.port!r} is"
            received = f"shape {array.shape[1:]} in row {first} of partition {partition}"
            raise DataError(expected(what, received, "Reshape the column with ReshapeTransformer."))
        return array

    return map_arrays(array_of, places, "features")


def numbers(array: Array, rows: Array) -> Array:
    """Rows, copied, floats as those that Keras computes with."""
    import keras

    return array[rows].astype(keras.config.floatx() if array.dtype.kind == "f" else array.dtype, copy=False)


def list_of(depth: int, dtype: str) -> pa.DataType:
    return pa.list_(list_of(depth - 1, dtype)) if depth else pa.from_numpy_dtype(np.dtype(dtype))
