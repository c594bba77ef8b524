"""Functions of columns that Spark SQL lacks, or that fail at null: of vectors, and of arrays of any depth."""

from collections.abc import Callable

from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.mllib.linalg import VectorUDT as OldVectorUDT
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, NumericType

from dkcore.errors import DataError, expected

__all__ = ["each", "flat", "is_vector", "only_row", "place_of", "sized", "to_array", "to_vector"]


def is_vector(kind: DataType) -> bool:
    return isinstance(kind, VectorUDT | OldVectorUDT)


def to_vector(array: Column) -> Column:
    """A vector of an array of numbers; Spark's own function fails at null."""
    return F.when(array.isNotNull(), array_to_vector(array))


def to_array(vector: Column) -> Column:
    """The numbers of a vector; at null Spark's own function fails."""
    return F.when(vector.isNotNull(), vector_to_array(vector))


def each(column: Column, kind: DataType, function: Callable[[Column], Column]) -> Column:
    """The function of every number in the column: vectors stay vectors, and arrays arrays."""
    if is_vector(kind):
        return to_vector(F.transform(to_array(column), function))
    if isinstance(kind, ArrayType):
        return F.transform(column, lambda element: each(element, kind.elementType, function))
    if isinstance(kind, NumericType):
        return function(column)
    advice = "Cast it to numbers, or index it with LabelIndexTransformer."
    raise DataError(expected("a column of numbers, arrays of them or vectors", kind.simpleString(), advice))


def flat(column: Column, kind: DataType) -> Column:
    """One array of all numbers of a vector or of nested arrays, in their order."""
    if is_vector(kind):
        return to_array(column)
    if not isinstance(kind, ArrayType):
        advice = "pyspark.ml's VectorAssembler makes one vector of numbers."
        raise DataError(expected("a column of arrays or vectors", kind.simpleString(), advice))
    return flat(F.flatten(column), kind.elementType) if isinstance(kind.elementType, ArrayType) else column


def place_of(array: Column, value: Column) -> Column:
    """Where a value is first in an array, from 0 on; -1: nowhere."""
    return F.call_function("array_position", array, value) - 1  # F.array_position of PySpark 3.5 takes no column for a value


def sized(column: Column, right: Column, what: str) -> Column:
    """The array, if its size is right; null stays null, and any other ends the query with a message."""
    message = F.concat(F.lit(f"Expected {what}. Received: "), F.size(column).cast("string"), F.lit(" in a row."))
    return F.when(column.isNull() | right, column).otherwise(F.raise_error(message))


def only_row(frame: DataFrame) -> Row:
    """The row of a DataFrame of aggregates, which has one."""
    row = frame.first()
    assert row is not None
    return row
