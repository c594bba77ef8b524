"""Which columns of a DataFrame are trained on: what is refused before anything runs, and what the tasks are told."""

import dataclasses
import numbers
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from dkcore.data.arrays import leaves
from dkcore.errors import DataError, expected
from spark_bridge.numbers_of import as_numbers, depth, numeric
from spark_bridge.signature import End, Port, given, taken

if TYPE_CHECKING:
    import keras
    from pyspark.sql import Column, DataFrame

    from spark_bridge.named import Named

__all__ = ["Columns"]

FLAG = "dkcore validation"  # the column that marks the rows of a validation DataFrame
Names = str | list[str] | dict[str, str]


@dataclass(frozen=True)
class Columns:
    """The columns of features, labels and, if any, sample weights, by name.

    features, label: one name; a list, in the order of the model's inputs or outputs; or a dict from their names. Each is of
    numbers or booleans, arrays of them nested to any depth, or vectors of pyspark.ml. Where a model's one input or output has a
    list, its numbers and arrays are put together into one array.
    joined: those, by the names that stand for them. wanted: what the model's inputs are, by column.
    """

    features: Names = "features"
    label: Names = "label"
    weight: str | None = None
    joined: dict[str, tuple[str, ...]] = field(default_factory=dict)
    wanted: dict[str, tuple[str, str, tuple[int | None, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, names in (("features", self.features), ("label", self.label), ("weight", "none" if self.weight is None else self.weight)):
            found = [name for _, name in leaves(names)]
            if not found or not all(isinstance(name, str) and name for name in found):
                advice = "Pass one name, a list of them, or a dict from the model's input or output to one."
                raise TypeError(expected(f"names of columns for {what}", repr(names), advice))

    def of(self, model: "keras.Model") -> "Columns":
        """These columns for a model; DataError when they do not fit its inputs and outputs, as far as those are known."""
        return self.fitted(taken(model), given(model))

    def fitted(self, inputs: End | None, outputs: End | None) -> "Columns":
        joined: dict[str, tuple[str, ...]] = {}
        wanted: dict[str, tuple[str, str, tuple[int | None, ...]]] = {}
        features = matched(self.features, inputs, joined, wanted)
        label = matched(self.label, outputs, joined, wanted, partial=True)
        return dataclasses.replace(self, features=features, label=label, joined=joined, wanted=wanted)

    @property
    def structure(self) -> dict[str, Names]:
        """x, y and sample_weight, as the model takes them, with names of columns."""
        found = {"x": self.features, "y": self.label, "sample_weight": self.weight}
        return {key: names for key, names in found.items() if names is not None}

    @property
    def names(self) -> list[str]:
        """Of all columns, each once."""
        return list(dict.fromkeys(name for _, name in leaves(self.structure)))

    def project(self, df: "DataFrame", validation: "DataFrame | float | None" = None, seed: int = 0, *, floats: str = "float32"
                ) -> "DataFrame":  # fmt: skip
        """Only what is needed, as numbers and arrays; the rows of a validation DataFrame are added, and flagged.

        DataError for a column that is not there, or cannot be trained on. validation, floats: as for `plan`.
        """
        from pyspark.sql import functions

        fraction_of(validation)
        chosen = self.selected(df, "the DataFrame", floats)
        if not is_frame(validation):
            return chosen
        held_out = self.selected(validation, "the validation DataFrame", floats)
        for name, one, two in zip(self.names, chosen.schema.fields, held_out.schema.fields, strict=True):
            mine, theirs = one.dataType.simpleString(), two.dataType.simpleString()
            if mine != theirs:
                advice = "Cast one of them."
                raise DataError(expected(f"{mine} in column {name!r} of the validation DataFrame, as for training", theirs, advice))
        flagged = [frame.select("*", functions.lit(flag).alias(FLAG)) for frame, flag in ((chosen, False), (held_out, True))]
        return flagged[0].union(flagged[1])

    def plan(self, validation: "DataFrame | float | None" = None, seed: int = 0, *, floats: str = "float32") -> dict[str, Any]:
        """What `spark_bridge.ingest.ingest` is told, as plain data.

        validation: a DataFrame; a fraction between 0 and 1 of the rows, drawn by the seed; or None. floats: their dtype,
        Keras' ``floatx``.
        """
        flag = FLAG if is_frame(validation) else None
        plan = {"structure": self.structure, "flag": flag, "fraction": fraction_of(validation), "seed": seed, "floats": floats}
        shapes = {name: [port, list(shape)] for name, (what, port, shape) in self.wanted.items() if what == "input"}
        return plan | ({"wanted": shapes} if shapes else {})

    def selected(self, df: "DataFrame", where: str, floats: str = "float32") -> "DataFrame":
        """A DataFrame of the columns alone, as numbers."""
        from spark_bridge.named import Named

        named = Named(df, where)
        return named.frame.select(*(self.numbers(named, name, floats).alias(name) for name in self.names))

    def numbers(self, named: "Named", name: str, floats: str) -> "Column":
        """A column as numbers, or several that are put together."""
        kinds = {each: named.kind(each) for each in self.joined.get(name, (name,))}
        targets = {each: numeric(kind, each, floats) for each, kind in kinds.items()}
        if name in self.wanted:
            self.check_depth(name, [depth(kinds[each]) for each in self.joined.get(name, (name,))])
        columns = {each: as_numbers(named.column(each), each, kind, floats) for each, kind in kinds.items()}
        if name not in self.joined:
            return columns[name]
        return together([columns[each] for each in self.joined[name]], [targets[each] for each in self.joined[name]])

    def check_depth(self, name: str, depths: list[int]) -> None:
        """DataError when columns of so deep arrays cannot be what an input, or a list of labels an output, is."""
        what, port, shape = self.wanted[name]
        if name in self.joined:
            right = len(shape) == 1 and max(depths) <= 1 and (max(depths) == 1 or shape[0] in (None, len(depths)))
            received = f"{len(depths)} columns {list(self.joined[name])}"
            advice = "Numbers and flat arrays are put together, in their order, and their lengths add up; name as many columns."
        else:
            right = what == "output" or len(shape) in (depths[0], depths[0] - 1) or (len(shape) == depths[0] + 1 and shape[-1] == 1)
            received = f"{'numbers' if depths[0] == 0 else f'arrays of depth {depths[0]}'} in column {name!r}"
            advice = "Reshape the column with ReshapeTransformer, or name columns in a list, which are put together into one array."
        if not right:
            raise DataError(expected(f"columns for the model's {what} {port!r} of shape {shape}", received, advice))


def matched(
    names: Names,
    end: End | None,
    joined: dict[str, tuple[str, ...]],
    wanted: dict[str, tuple[str, str, tuple[int | None, ...]]],
    *,
    partial: bool = False,
) -> Names:
    """The names in the structure in which the model takes them, and one for what is put together; joined, wanted: noted there."""
    if end is None:
        return names
    found = {port: one(each, joined, end.what) for port, each in end.match(names, partial=partial).items()}
    for name, columns in found.items():
        port: Port = end.port(name)
        if end.what == "input" or columns in joined:
            wanted.setdefault(columns, (end.what, port.name, port.shape))
    if isinstance(names, dict) or end.keys:
        return found
    return next(iter(found.values())) if len(found) == 1 else list(found.values())


def one(names: Any, joined: dict[str, tuple[str, ...]], what: str) -> str:
    """The name, or that of a list of names that are put together."""
    if isinstance(names, str):
        return names
    if isinstance(names, dict) or not all(isinstance(name, str) for name in names):
        raise DataError(expected(f"names of columns for one {what} of the model", repr(names), "Pass one name, or a list of them."))
    if len(names) == 1:
        return str(names[0])
    label = ", ".join(names)
    joined[label] = tuple(names)
    return label


def together(columns: list["Column"], kinds: list[str]) -> "Column":
    """One array of numbers and flat arrays of them; null where one of them is null."""
    from pyspark.sql import functions

    elements = {kind.removeprefix("array<").removesuffix(">") for kind in kinds}
    if elements & {"float", "double"}:
        element = "double" if elements != {"float"} else "float"
    else:
        element = elements.pop() if len(elements) == 1 else "bigint"
    arrays = [column if kind.startswith("array") else functions.array(column) for column, kind in zip(columns, kinds, strict=True)]
    return functions.concat(*(array.cast(f"array<{element}>") for array in arrays))


def is_frame(validation: Any) -> "TypeGuard[DataFrame]":
    return hasattr(validation, "schema")


def fraction_of(validation: Any) -> float:
    """The fraction of rows to hold out; 0 when there is none."""
    if validation is None or is_frame(validation):
        return 0.0
    is_number = isinstance(validation, numbers.Real) and not isinstance(validation, bool)
    if not is_number or not 0 < validation < 1:
        advice = "Pass validation_data=0.1, or a DataFrame with the same columns."
        raise DataError(expected("a DataFrame or a fraction between 0 and 1 for validation", repr(validation), advice))
    return float(validation)
