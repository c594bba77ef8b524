"""The columns of a DataFrame by the names in its schema: with dots, blanks or backquotes, in any case, however many share one."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyspark.sql.types import DataType, StructField, StructType

from dkcore.errors import DataError, expected

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["Named"]

QUOTED = re.compile(r"`((?:[^`]|``)*)`|([^`.]+)")


class Named:
    """A DataFrame of which columns are taken by name.

    A name is that of a column, as the schema has it. Where there is none it is read as Spark SQL reads it: in any case, with
    dots between a struct and its fields, in backquotes.

    Attributes:
        frame: select from this one: the DataFrame, or, if names in it differ in nothing but case, one with other names.
    """

    def __init__(self, given: "DataFrame", where: str = "the DataFrame"):
        self.given, self.where = given, where
        self.fields = given.schema.fields
        self.names = [field.name for field in self.fields]
        self.frame = given if apart(self.names) else given.toDF(*(f"column {place}" for place in range(len(self.names))))

    def path(self, name: str) -> list[int]:
        """The place of the column, and those of the fields within it; DataError when there is none, or more than one."""
        found = find(self.fields, name, str.__eq__) or walk(self.fields, parts(name), str.__eq__)
        if not found and self.given.sparkSession.conf.get("spark.sql.caseSensitive") != "true":
            found = find(self.fields, name, alike) or walk(self.fields, parts(name), alike)
        if not found:
            raise DataError(expected(f"a column {name!r} in {self.where}", f"columns {self.names}", "Give its name as the schema has it."))
        if len(found) > 1:
            advice = "Rename or drop all but one: df.toDF(...) names columns by their places."
            raise DataError(expected(f"one column {name!r} in {self.where}", f"{len(found)} of that name among {self.names}", advice))
        return found[0]

    def kind(self, name: str) -> DataType:
        first, *more = self.path(name)
        kind = self.fields[first].dataType
        for place in more:
            kind = fields_of(kind)[place].dataType
        return kind

    def column(self, name: str) -> "Column":
        """To select from `frame`."""
        first, *more = self.path(name)
        column, kind = self.frame[quoted(self.frame.columns[first])], self.fields[first].dataType
        for place in more:
            fields = fields_of(kind)
            if not apart([field.name for field in fields]):
                column = column.cast(StructType([StructField(f"field {i}", field.dataType) for i, field in enumerate(fields)]))
            column = column.getField(f"field {place}" if not apart([field.name for field in fields]) else fields[place].name)
            kind = fields[place].dataType
        return column

    def with_column(self, name: str, column: "Column") -> "DataFrame":
        """The DataFrame with that column, in the place of the one of the same name if there is one."""
        if self.frame is self.given:
            return self.given.withColumn(name, column)
        places = [place for place, known in enumerate(self.names) if known == name] or [len(self.names)]
        columns = [*(self.frame[quoted(known)] for known in self.frame.columns), column]
        if len(places) > 1:
            advice = "Rename or drop them first, or give another name to the new one."
            raise DataError(expected(f"one column {name!r} to replace in {self.where}", f"{len(places)} of that name", advice))
        columns[places[0]] = columns[-1]
        names = self.names if places[0] < len(self.names) else [*self.names, name]
        return self.frame.select(*(each.alias(f"column {i}") for i, each in enumerate(columns[: len(names)]))).toDF(*names)

    def where_true(self, condition: "Column") -> "DataFrame":
        """The rows of which a condition on `frame` is true."""
        rows = self.frame.where(condition)
        return rows if self.frame is self.given else rows.toDF(*self.names)


def fields_of(kind: DataType) -> list[StructField]:
    assert isinstance(kind, StructType)  # `Named.path` leads through nothing else
    return kind.fields


def find(fields: list[StructField], name: str, same: Callable[[str, str], bool]) -> list[list[int]]:
    """The places of the columns of that name; if there are none, of fields of structs, with dots between."""
    found = [[place] for place, field in enumerate(fields) if same(field.name, name)]
    if found:
        return found
    for place, field in enumerate(fields):
        if isinstance(field.dataType, StructType):
            for dot in (match.start() for match in re.finditer(r"\.", name)):
                if same(field.name, name[:dot]):
                    found += [[place, *rest] for rest in find(field.dataType.fields, name[dot + 1 :], same)]
    return found


def walk(fields: list[StructField], names: list[str], same: Callable[[str, str], bool]) -> list[list[int]]:
    """The places of the columns, or of fields within them, that have these names one within the other."""
    if not names:
        return []
    found = [place for place, field in enumerate(fields) if same(field.name, names[0])]
    if len(names) == 1:
        return [[place] for place in found]
    inner = [(place, kind) for place in found if isinstance(kind := fields[place].dataType, StructType)]
    return [[place, *rest] for place, kind in inner for rest in walk(kind.fields, names[1:], same)]


def parts(name: str) -> list[str]:
    """The names within one that has backquotes; none when it is not written as Spark SQL would have it."""
    found = list(QUOTED.finditer(name))
    whole = ".".join(match[0] for match in found) == name and "`" in name
    return [match[1].replace("``", "`") if match[2] is None else match[2] for match in found] if whole else []


def quoted(name: str) -> str:
    """The name for Spark SQL, whatever is in it."""
    return "`" + name.replace("`", "``") + "`"


def alike(one: str, two: str) -> bool:
    return one.lower() == two.lower()


def apart(names: list[str]) -> bool:
    """Whether the names differ, and not in case alone."""
    return len({name.lower() for name in names}) == len(names)
