"""dist-keras' transformers as stages of pyspark.ml, built of Spark SQL's own functions: no row passes through Python.

Columns are numbers, vectors of pyspark.ml or pyspark.mllib, or arrays of any depth. All stages can be saved and loaded, and run
in a Pipeline. Their arguments, which are Params too, have the names and the order that dist-keras gave them.
"""

import math
from typing import Any

from pyspark.ml.functions import array_to_vector
from pyspark.ml.param.shared import HasInputCols
from pyspark.ml.stat import Summarizer
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, NumericType, StringType

from dkcore.arguments import count, real, text, texts, truth, whole, wholes
from dkcore.errors import DataError, expected
from spark_bridge.arguments import named, param
from spark_bridge.column_functions import each, flat, is_vector, only_row, place_of, sized, to_array, to_vector
from spark_bridge.named import Named
from spark_bridge.stages import ColumnStage, Stage

__all__ = ["BinaryLabelTransformer", "DenseTransformer", "LabelIndexTransformer", "MinMaxTransformer", "OneHotTransformer",
           "ReshapeTransformer", "StandardTransformer"]  # fmt: skip


class MinMaxTransformer(ColumnStage):
    """Numbers of the range [o_min, o_max] moved linearly to [n_min, n_max].

    is_vector: what the column has to be, vectors or arrays (True) or numbers (False); None takes both.
    """

    oMin, oMax = (param(name, "old end of the range", real) for name in ("oMin", "oMax"))
    nMin, nMax = (param(name, "new end of the range", real) for name in ("nMin", "nMax"))
    isVector = param("isVector", "whether the column has vectors or arrays", truth)

    @named(input_column="input_col", output_column="output_col")
    def __init__(
        self,
        o_min: float = 0.0,
        o_max: float = 1.0,
        n_min: float = 0.0,
        n_max: float = 1.0,
        input_col: str | None = None,
        output_col: str | None = None,
        is_vector: bool | None = None,
    ):
        super().__init__(oMin=o_min, oMax=o_max, nMin=n_min, nMax=n_max, inputCol=input_col, outputCol=output_col, isVector=is_vector)

    def column(self, old: Column, kind: DataType) -> Column:
        o_min, o_max, n_min, n_max = (self.need(name) for name in ("oMin", "oMax", "nMin", "nMax"))
        if not o_min < o_max:
            raise ValueError(expected("o_min below o_max", f"{o_min} and {o_max}", "They are the range that the numbers have now."))
        if self.isDefined("isVector") and self.need("isVector") == isinstance(kind, NumericType):
            what = "vectors or arrays" if self.need("isVector") else "numbers"
            raise DataError(expected(f"a column of {what}", kind.simpleString(), "Leave is_vector out, and both will do."))
        scale = (n_max - n_min) / (o_max - o_min)
        return each(old, kind, lambda number: (number - F.lit(o_max)) * F.lit(scale) + F.lit(n_max))


class StandardTransformer(Stage, HasInputCols):
    """Columns less their mean, by their standard deviation of the whole population; into new columns with a suffix.

    Both are those of the DataFrame itself, at each ``transform``; to apply the ones of the training data to others use
    ``pyspark.ml.feature.StandardScaler``. Arrays and vectors are scaled element by element. What never varies becomes 0.
    """

    inputCols = param("inputCols", "the columns to read", texts)
    suffix = param("suffix", "what the names of the new columns end in", text)

    @named(inputCols="columns", input_cols="columns")
    def __init__(self, columns: list[str] | None = None, suffix: str = "_normalized"):
        super().__init__(inputCols=columns, suffix=suffix)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        metrics = Summarizer.metrics("mean", "variance", "count")
        for name in self.need("inputCols"):
            found = Named(dataset)
            column, kind = found.column(name), found.kind(name)
            vector = self.vector(column, kind)
            known = found.frame.where(column.isNotNull())  # the summary fails at null
            mean, variance, count = only_row(known.select(metrics.summary(vector)))[0]
            population = (count - 1) / max(count, 1)  # the summary divides by count - 1
            rates = [1 / math.sqrt(value * population) if value > 0 else 0.0 for value in variance]
            dataset = found.with_column(name + self.need("suffix"), self.scaled(column, kind, mean, rates))
        return dataset

    def vector(self, column: Column, kind: DataType) -> Column:
        """The column as vectors of pyspark.ml, for its statistics."""
        if is_vector(kind):
            return to_vector(to_array(column))
        array = column if isinstance(kind, ArrayType) else F.array(column)
        element = kind.elementType if isinstance(kind, ArrayType) else kind
        if not isinstance(element, NumericType):
            raise DataError(expected("a column of numbers, arrays of them or vectors", kind.simpleString(), "Cast or reshape it."))
        return to_vector(array.cast("array<double>"))

    def scaled(self, column: Column, kind: DataType, mean: Any, rates: list[float]) -> Column:
        if isinstance(kind, NumericType):
            return (column - F.lit(float(mean[0]))) * F.lit(rates[0])
        array = to_array(column) if is_vector(kind) else column
        means, factors = (F.array(*(F.lit(float(value)) for value in values)) for values in (mean, rates))
        new = F.zip_with(F.zip_with(array, means, lambda one, two: one - two), factors, lambda one, two: one * two)
        return to_vector(new) if is_vector(kind) else new


class BinaryLabelTransformer(ColumnStage):
    """The vector [1, 0] where the column has the label, [0, 1] elsewhere."""

    label = param("label", "the value that becomes [1, 0]")

    @named(inputCol="input_column", input_col="input_column", outputCol="output_column", output_col="output_column")
    def __init__(self, input_column: str | None = None, output_column: str | None = None, label: Any = None):
        super().__init__(inputCol=input_column, outputCol=output_column, label=label)

    def column(self, old: Column, kind: DataType) -> Column:
        is_label = F.coalesce(old == F.lit(self.need("label")), F.lit(False)).cast("double")
        return array_to_vector(F.array(is_label, 1.0 - is_label))


class OneHotTransformer(ColumnStage):
    """An index of 0 to output_dim - 1 as an array of so many doubles, 1 at the index and 0 elsewhere.

    Unlike ``pyspark.ml.feature.OneHotEncoder`` it needs no fit and gives arrays. Another number ends the query; null stays null.
    """

    outputDim = param("outputDim", "how many classes there are", count)

    @named(input_column="input_col", output_column="output_col")
    def __init__(self, output_dim: int | None = None, input_col: str | None = None, output_col: str | None = None):
        super().__init__(outputDim=output_dim, inputCol=input_col, outputCol=output_col)

    def column(self, old: Column, kind: DataType) -> Column:
        size = self.need("outputDim")
        if not isinstance(kind, NumericType):
            advice = "Index it, with LabelIndexTransformer or pyspark.ml's StringIndexer."
            raise DataError(expected("a column of indices", kind.simpleString(), advice))
        array = F.transform(F.sequence(F.lit(0), F.lit(size - 1)), lambda index: (index == old).cast("double"))
        message = F.concat(F.lit(f"Expected an index of 0 to {size - 1}. Received: "), old.cast("string"), F.lit("."))
        return F.when(F.array_contains(array, 1.0), array).when(old.isNotNull(), F.raise_error(message))


class LabelIndexTransformer(ColumnStage):
    """The class that a prediction of output_dim numbers means, as a double.

    It is the first one that reaches activation_threshold; else the one of the greatest number, if that is above 0; else
    default_index.

    Of a column of strings it is the place, in the order of the alphabet, among all strings that the column has: those have to be
    output_dim, so that other rows with the same labels get the same indices. StringIndexer of pyspark.ml keeps what it has seen.
    """

    outputDim = param("outputDim", "how many classes there are", count)
    defaultIndex = param("defaultIndex", "the class where no number is above 0", whole)
    activationThreshold = param("activationThreshold", "what makes the first such class the answer", real)

    @named(input_column="input_col", output_column="output_col")
    def __init__(
        self,
        output_dim: int | None = None,
        input_col: str = "prediction",
        output_col: str = "prediction_index",
        default_index: int = 0,
        activation_threshold: float = 0.55,
    ):
        super().__init__(outputDim=output_dim, inputCol=input_col, outputCol=output_col, defaultIndex=default_index,
                         activationThreshold=activation_threshold)  # fmt: skip

    def new(self, dataset: Named, name: str) -> Column:
        if not isinstance(dataset.kind(name), StringType):
            return super().new(dataset, name)
        old, size = dataset.column(name), self.need("outputDim")
        rows = dataset.frame.where(old.isNotNull()).select(old.alias("label")).distinct().limit(size + 1).collect()
        if len(rows) != size:
            received = f"more than {size}" if len(rows) > size else len(rows)
            advice = "Pass output_dim as many as there are, or index it with pyspark.ml's StringIndexer."
            raise DataError(expected(f"{size} labels in column {name!r}, as output_dim says", received, advice))
        known = F.array(*(F.lit(label) for label in sorted(row[0] for row in rows)))
        return F.when(old.isNotNull(), place_of(known, old).cast("double"))

    def column(self, old: Column, kind: DataType) -> Column:
        size, threshold = self.need("outputDim"), F.lit(self.need("activationThreshold"))
        array = flat(old, kind)
        array = F.slice(sized(array, F.size(array) >= size, f"{size} numbers"), 1, size)
        array = F.transform(array, lambda number: F.nanvl(number.cast("double"), F.lit(0.0)))  # to Spark NaN is the greatest
        first = place_of(F.transform(array, lambda number: number >= threshold), F.lit(True))
        best = F.array_max(array)
        index = F.when(first >= 0, first).when(best > 0, place_of(array, best))
        return F.when(old.isNotNull(), index.otherwise(self.need("defaultIndex")).cast("double"))


class DenseTransformer(ColumnStage):
    """Sparse vectors, or arrays of numbers, as dense vectors."""

    @named(input_column="input_col", output_column="output_col")
    def __init__(self, input_col: str | None = None, output_col: str | None = None):
        super().__init__(inputCol=input_col, outputCol=output_col)

    def column(self, old: Column, kind: DataType) -> Column:
        return to_vector(flat(old, kind).cast("array<double>"))


class ReshapeTransformer(ColumnStage):
    """Vectors or arrays as nested arrays of another shape, in the order of C; another number of elements ends the query."""

    shape = param("shape", "lengths from the outermost array to the innermost", wholes)

    @named(input_column="input_col", output_column="output_col")
    def __init__(self, input_col: str | None = None, output_col: str | None = None, shape: tuple[int, ...] | None = None):
        super().__init__(inputCol=input_col, outputCol=output_col, shape=shape)

    def column(self, old: Column, kind: DataType) -> Column:
        shape = self.need("shape")
        if not shape or min(shape) < 1:
            raise ValueError(expected("a shape of lengths of 1 or more", shape, "Pass shape=(28, 28, 1), for instance."))
        size = math.prod(shape)
        array = flat(old, kind)
        array = sized(array, F.size(array) == size, f"{size} elements for the shape {shape}")
        # As the argument of a function the array is computed once, and not for each of its pieces.
        return F.when(old.isNotNull(), F.transform(F.array(array), lambda whole: pieces(whole, shape, F.lit(1)))[0])


def pieces(whole: Column, shape: list[int], start: Column) -> Column:
    """Nested arrays of a shape, of the elements of an array from the start-th on; the first is 1."""
    if len(shape) == 1:
        return F.slice(whole, start, shape[0])
    size = math.prod(shape[1:])
    return F.transform(F.sequence(F.lit(0), F.lit(shape[0] - 1)), lambda index: pieces(whole, shape[1:], start + index * size))
