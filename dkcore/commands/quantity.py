"""An option whose value has a unit, or a form of its own."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

__all__ = ["Quantity"]

if TYPE_CHECKING:
    Type = click.ParamType[Any]
else:
    Type = click.ParamType  # that of older ones takes no type


class Quantity(Type):
    """An option that is read by a function such as those of `dkcore.commands.units`."""

    def __init__(self, name: str, read: Callable[[Any], Any]):
        self.name, self.read = name, read

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        try:
            return self.read(value)
        except ValueError as error:
            self.fail(str(error), parameter, context)
