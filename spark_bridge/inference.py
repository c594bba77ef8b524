"""What predicts on an executor: Arrow batches in, the same with predictions out. The model is loaded once a process."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark import TaskContext

from dkcore.data import map_arrays
from dkcore.errors import ModelError, expected
from spark_bridge.arrow import to_arrow, to_numpy

if TYPE_CHECKING:
    import keras
    from pyspark import Broadcast

__all__ = ["Inference", "Place", "read"]


@dataclass(frozen=True)
class Place:
    """A column that the model sees: its name, and its number in the batches."""

    name: str
    index: int


@dataclass(frozen=True)
class Inference:
    """A function for ``mapInArrow``.

    parcel: the `spark_bridge.parcel.Parcel`. places: the structure of the model's inputs, of `Place`. kept: how many columns of
    the batches are handed on. outputs: of each new column its name and its depth of lists. keys: the names of the model's outputs
    in that order, if they have names. batch_size: rows that the model sees at once.
    """

    parcel: "Broadcast"
    places: Any
    kept: int
    outputs: list[tuple[str, int]]
    keys: list[str] | None
    batch_size: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        partition, first = TaskContext.get().partitionId(), 0
        for batch in batches:
            new = [pa.array([], list_of(depth)) for _, depth in self.outputs]
            if batch.num_rows:
                x = read(batch, self.places, first, partition)
                new = [to_arrow(output) for output in self.predict(self.parcel.value.model(), x, batch.num_rows)]
            names = [*batch.schema.names[: self.kept], *(name for name, _ in self.outputs)]
            yield pa.RecordBatch.from_arrays([*batch.columns[: self.kept], *new], names)
            first += batch.num_rows

    def predict(self, model: "keras.Model", x: Any, rows: int) -> list[np.ndarray]:
        """The outputs, float32, for all rows."""
        parts: list[list[np.ndarray]] = []
        for start in range(0, rows, self.batch_size):
            count = min(self.batch_size, rows - start)
            # To a power of two: the model is compiled for each new size.
            size = min(self.batch_size, 1 << (count - 1).bit_length())
            chosen = np.minimum(np.arange(start, start + size), start + count - 1)
            found = self.in_order(model.predict_on_batch(map_arrays(lambda _, leaf: numbers(leaf, chosen), x, "features")))  # noqa: B023
            parts.append([self.shaped(output[:count], depth) for output, (_, depth) in zip(found, self.outputs, strict=True)])
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def in_order(self, result: Any) -> list[np.ndarray]:
        import keras

        found = [result[key] for key in self.keys] if self.keys else keras.tree.flatten(result)
        if len(found) != len(self.outputs):
            what = f"{len(self.outputs)} outputs of the model, as many as columns"
            raise ModelError(expected(what, len(found), "Pass a list of columns."))
        return found

    def shaped(self, output: Any, depth: int) -> np.ndarray:
        """An output as an array of the depth that its column has; a number a row becomes a vector of one."""
        array = np.asarray(output, "float32")
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != depth + 1:
            advice = "Wrap a subclass of Model into a functional one, which knows the shape: keras.Model(x, model(x))."
            raise ModelError(expected(f"an output of {depth} axes beside that of the samples", array.ndim - 1, advice))
        return array


def read(batch: pa.RecordBatch, places: Any, first: int, partition: int) -> Any:
    """The columns of a batch as arrays, in the structure of places; first: the number of its first row in the partition."""
    return map_arrays(
        lambda _, place: to_numpy(batch.column(place.index), place.name, first=first, partition=partition), places, "features"
    )


def numbers(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows, copied, floats as those that Keras computes with."""
    import keras

    return array[rows].astype(keras.config.floatx() if array.dtype.kind == "f" else array.dtype, copy=False)


def list_of(depth: int) -> pa.DataType:
    return pa.list_(list_of(depth - 1)) if depth else pa.float32()
