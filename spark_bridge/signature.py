"""What a Keras model takes and gives, as far as it is known before it runs: compared with columns before anything is started."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dkcore.errors import DataError, expected

if TYPE_CHECKING:
    import keras

__all__ = ["End", "Port", "fits", "given", "taken"]


@dataclass(frozen=True)
class Port:
    """One input or output: its name, the shape of an element, None where any length will do, and its dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class End:
    """All inputs of a model, or all outputs, in their order. keys: whether it has them in a dict, by their names."""

    what: str
    ports: tuple[Port, ...]
    keys: bool = False

    @classmethod
    def of(cls, what: str, tensors: list[Any], structure: Any, names: list[str]) -> "End | None":
        keys = isinstance(structure, dict)
        named = [(name, structure[name]) for name in sorted(structure)] if keys else list(zip(names, tensors, strict=True))
        if len(named) != len(tensors) or not all(hasattr(tensor, "shape") for _, tensor in named):  # nested deeper: Keras' own affair
            return None
        return cls(what, tuple(Port(name, tuple(tensor.shape[1:]), str(tensor.dtype)) for name, tensor in named), keys)

    def match(self, columns: Any, *, partial: bool = False) -> dict[str, Any]:
        """What each port gets of a name of a column, a list of them or a dict; DataError when they are not as many, or have other
        names. partial: a dict may leave some out.

        A list for a single port is one thing: columns to be put together.
        """
        names = [port.name for port in self.ports]
        if isinstance(columns, dict):
            wrong = [name for name in columns if name not in names] or ([] if partial else [name for name in names if name not in columns])
            if wrong:
                advice = f"Name the model's {self.what}s in the dict, or pass a list of columns in their order."
                raise DataError(expected(f"columns for the model's {self.what}s {names}", f"columns for {list(columns)}", advice))
            return dict(columns)
        if len(names) == 1 and not self.keys:
            return {names[0]: columns[0] if isinstance(columns, list | tuple) and len(columns) == 1 else columns}
        if isinstance(columns, str) or len(columns) != len(names):
            one = {names[0]: columns} if len(names) == 1 else None
            if one:
                return one
            what = f"a column for each of the model's {len(names)} {self.what}s {names}"
            raise DataError(expected(what, repr(columns), f"Pass a list of them in that order, or a dict by the {self.what}s' names."))
        return dict(zip(names, columns, strict=True))

    def port(self, name: str) -> Port:
        return next(port for port in self.ports if port.name == name)


def taken(model: "keras.Model") -> End | None:
    """The inputs of a model; None for a subclass of Model, of which nobody knows before it ran."""
    tensors = getattr(model, "inputs", None)
    return End.of("input", tensors, getattr(model, "input", None), [tensor.name for tensor in tensors]) if tensors else None


def given(model: "keras.Model") -> End | None:
    """The outputs, likewise."""
    tensors = getattr(model, "outputs", None)
    if not tensors:
        return None
    names = getattr(model, "output_names", None) or [tensor.name for tensor in tensors]
    return End.of("output", tensors, getattr(model, "output", None), names)


def fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether elements of that shape can be an input's: Keras adds, or takes away, a last axis of one."""
    shape, wanted = tuple(shape), tuple(wanted)
    if len(shape) == len(wanted) - 1 and wanted[-1] == 1:
        shape = (*shape, 1)
    elif len(shape) == len(wanted) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    return len(shape) == len(wanted) and all(two in (one, None) for one, two in zip(shape, wanted, strict=True))
