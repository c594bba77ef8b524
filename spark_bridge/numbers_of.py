"""A column as numbers, or arrays of them: which type it is cast to, and what is refused."""

from typing import TYPE_CHECKING

from dkcore.errors import DataError, expected

if TYPE_CHECKING:
    from pyspark.sql import Column
    from pyspark.sql.types import DataType

__all__ = ["as_numbers", "depth", "numeric"]


def as_numbers(column: "Column", name: str, kind: "DataType", floats: str = "float32") -> "Column":
    """The column as numbers, or as arrays of them; DataError when it is something else. floats: Keras' ``floatx``."""
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions

    target = numeric(kind, name, floats)
    if kind.simpleString() == "vector":
        array = vector_to_array(column, "float64" if floats == "float64" else "float32")
        return functions.when(column.isNotNull(), array)  # at null it fails, and names no row
    return column if target == kind.simpleString() else exact(column, kind, name).cast(target)


def numeric(kind: "DataType", name: str, floats: str = "float32") -> str:
    """The type that such a column is cast to; DataError when it has no numbers. Decimals without a fraction become integers."""
    from pyspark.sql import types

    real = "double" if floats == "float64" else "float"
    if kind.simpleString() == "vector":
        return f"array<{real}>"
    element = kind
    while isinstance(element, types.ArrayType):
        element = element.elementType
    if isinstance(element, types.DecimalType):
        found = real if element.scale > 0 else "bigint"
    elif isinstance(element, types.NumericType | types.BooleanType):
        found = element.simpleString()
    else:
        what = f"numbers, booleans, vectors or arrays of numbers in column {name!r}"
        raise DataError(expected(what, kind.simpleString(), advice_for(kind)))
    return "array<" * depth(kind) + found + ">" * depth(kind)


def exact(column: "Column", kind: "DataType", name: str) -> "Column":
    """The column, in which a decimal that no integer of 64 bits can hold ends the query: a cast would change it in silence."""
    from pyspark.sql import functions, types

    if isinstance(kind, types.ArrayType):
        return functions.transform(column, lambda element: exact(element, kind.elementType, name))
    if not isinstance(kind, types.DecimalType) or kind.scale > 0 or kind.precision <= 18:
        return column
    text = f"Expected integers of 64 bits in column {name!r}. Received: "
    refusal = functions.concat(functions.lit(text), column.cast("string"), functions.lit(". Cast the column to double."))
    bounds = [functions.lit(str(bound)).cast("decimal(38,0)") for bound in (-(2**63), 2**63 - 1)]
    return functions.when(column.isNull() | column.between(*bounds), column).otherwise(functions.raise_error(refusal))


def depth(kind: "DataType") -> int:
    """How many axes an element of a column has."""
    from pyspark.sql import types

    return 1 + depth(kind.elementType) if isinstance(kind, types.ArrayType) else int(kind.simpleString() == "vector")


def advice_for(kind: "DataType") -> str:
    """How to make numbers of a type."""
    from pyspark.sql import types

    if isinstance(kind, types.StringType | types.VarcharType | types.CharType):
        return "Index it, with LabelIndexTransformer or pyspark.ml's StringIndexer."
    if isinstance(kind, types.DateType | types.TimestampType):
        return "Take numbers of it, with unix_timestamp, dayofweek or hour."
    if isinstance(kind, types.StructType):
        return "Select its fields as columns of their own, or name one: 'column.field'."
    if isinstance(kind, types.MapType):
        return "Select its values as columns of their own."
    if isinstance(kind, types.BinaryType):
        return "Decode it into an array of numbers."
    return "Cast it to a number, or to an array of numbers."
