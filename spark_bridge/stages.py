"""What the stages of pyspark.ml share that change columns."""

from typing import Any

from pyspark.ml import Transformer
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.sql import Column, DataFrame
from pyspark.sql.types import DataType

from dkcore.arguments import text
from dkcore.errors import expected
from spark_bridge.arguments import param
from spark_bridge.named import Named
from spark_bridge.persistence import Kept

__all__ = ["ColumnStage", "Stage"]


class Stage(Transformer, Kept):
    """What all of them share."""

    def __init__(self, **params: Any):
        super().__init__()
        self._set(**{name: value for name, value in params.items() if value is not None})

    def need(self, name: str) -> Any:
        """The Param's value; ValueError when nobody gave one."""
        if not self.isDefined(name):
            raise ValueError(expected(f"{name} of {type(self).__name__}", "nothing", "Pass it to the constructor."))
        return self.getOrDefault(name)


class ColumnStage(Stage, HasInputCol, HasOutputCol):
    """One new column of one old column; an old one of the new name is replaced."""

    inputCol = param("inputCol", "the column to read", text)
    outputCol = param("outputCol", "the column to write", text)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        found, name = Named(dataset), self.need("inputCol")
        return found.with_column(self.need("outputCol"), self.new(found, name))

    def new(self, dataset: Named, name: str) -> Column:
        return self.column(dataset.column(name), dataset.kind(name))

    def column(self, old: Column, kind: DataType) -> Column:
        """The new column of the old one, and of its type."""
        raise NotImplementedError
