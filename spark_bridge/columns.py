"""Which columns of a DataFrame are trained on: what is refused before anything runs, and what the tasks are told."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dkcore.data import leaves
from dkcore.errors import DataError, expected

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import DataType

__all__ = ["Columns"]

FLAG = "dkcore validation"  # the column that marks the rows of a validation DataFrame
Names = str | list[str] | dict[str, str]


@dataclass(frozen=True)
class Columns:
    """The columns of features, labels and, if any, sample weights, by name.

    features, label: one name; a list, in the order of the model's inputs or outputs; or a dict from their names. Each is of
    numbers or booleans, arrays of them nested to any depth, or vectors of pyspark.ml.
    """

    features: Names = "features"
    label: Names = "label"
    weight: str | None = None

    def __post_init__(self):
        for what, names in (("features", self.features), ("label", self.label), ("weight", self.weight or "none")):
            found = [name for _, name in leaves(names)]
            if not found or not all(isinstance(name, str) and name for name in found):
                advice = "Pass one name, a list of them, or a dict from the model's input or output to one."
                raise TypeError(expected(f"names of columns for {what}", repr(names), advice))

    @property
    def structure(self) -> dict[str, Names]:
        """x, y and sample_weight, as the model takes them, with names of columns."""
        found = {"x": self.features, "y": self.label, "sample_weight": self.weight}
        return {key: names for key, names in found.items() if names is not None}

    @property
    def names(self) -> list[str]:
        """Of all columns, each once."""
        return list(dict.fromkeys(name for _, name in leaves(self.structure)))

    def project(self, df: "DataFrame", validation: "DataFrame | float | None" = None, seed: int = 0) -> "DataFrame":
        """Only what is needed, as numbers and arrays; the rows of a validation DataFrame are added, and flagged.

        DataError for a column that is not there, or cannot be trained on. validation: as for `plan`.
        """
        from pyspark.sql import functions

        fraction_of(validation)
        chosen = df.select(*self.selected(df, "the DataFrame"))
        if not is_frame(validation):
            return chosen
        held_out = validation.select(*self.selected(validation, "the validation DataFrame"))
        for name in self.names:
            mine, theirs = (frame.schema[name].dataType.simpleString() for frame in (chosen, held_out))
            if mine != theirs:
                advice = "Cast one of them."
                raise DataError(expected(f"{mine} in column {name!r} of the validation DataFrame, as for training", theirs, advice))
        flag = functions.lit
        return chosen.withColumn(FLAG, flag(False)).unionByName(held_out.withColumn(FLAG, flag(True)))

    def plan(self, validation: "DataFrame | float | None" = None, seed: int = 0, *, floats: str = "float32") -> dict:
        """What `spark_bridge.ingest.ingest` is told, as plain data.

        validation: a DataFrame; a fraction between 0 and 1 of the rows, drawn by the seed; or None. floats: their dtype,
        Keras' ``floatx``.
        """
        flag = FLAG if is_frame(validation) else None
        return {"structure": self.structure, "flag": flag, "fraction": fraction_of(validation), "seed": seed, "floats": floats}

    def selected(self, df: "DataFrame", where: str) -> list["Column"]:
        """The columns to select from a DataFrame."""
        fields = {field.name: field.dataType for field in df.schema.fields}
        if missing := [name for name in self.names if name not in fields]:
            raise DataError(expected(f"column {missing[0]!r} in {where}", f"columns {list(fields)}", "Is it spelled so?"))
        return [as_numbers(df, name, fields[name]) for name in self.names]


def is_frame(validation) -> bool:
    return hasattr(validation, "schema")


def fraction_of(validation) -> float:
    """The fraction of rows to hold out; 0 when there is none."""
    if validation is None or is_frame(validation):
        return 0.0
    if isinstance(validation, bool) or not isinstance(validation, float | int) or not 0 < validation < 1:
        advice = "Pass validation_data=0.1, or a DataFrame with the same columns."
        raise DataError(expected("a DataFrame or a fraction between 0 and 1 for validation", repr(validation), advice))
    return float(validation)


def as_numbers(df: "DataFrame", name: str, kind: "DataType") -> "Column":
    """The column as numbers, or as arrays of them; DataError when it is something else."""
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions

    quoted = "`" + name.replace("`", "``") + "`"
    column = df[quoted]
    if kind.simpleString() == "vector":
        return functions.when(column.isNotNull(), vector_to_array(column, "float32")).alias(name)  # at null it fails, and names no row
    target = numeric(kind)
    if target is None:
        what = f"numbers, booleans, vectors or arrays of numbers in column {name!r}"
        raise DataError(expected(what, kind.simpleString(), advice_for(kind)))
    return column if target == kind.simpleString() else column.cast(target).alias(name)


def numeric(kind: "DataType") -> str | None:
    """The type that such a column is cast to, None when it has no numbers. Decimals become floats."""
    from pyspark.sql import types

    if isinstance(kind, types.ArrayType):
        element = numeric(kind.elementType)
        return element and f"array<{element}>"
    if isinstance(kind, types.DecimalType):
        return "float"
    return kind.simpleString() if isinstance(kind, types.NumericType | types.BooleanType) else None


def advice_for(kind: "DataType") -> str:
    """How to make numbers of a type."""
    from pyspark.sql import types

    if isinstance(kind, types.StringType | types.VarcharType | types.CharType):
        return "Index it, with LabelIndexTransformer or pyspark.ml's StringIndexer."
    if isinstance(kind, types.DateType | types.TimestampType):
        return "Take numbers of it: unix_timestamp, dayofweek, hour ..."
    if isinstance(kind, types.StructType | types.MapType):
        return "Select its fields or values as columns of their own."
    if isinstance(kind, types.BinaryType):
        return "Decode it into an array of numbers."
    return "Cast it to a number, or to an array of numbers."
