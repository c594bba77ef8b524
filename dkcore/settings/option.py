"""How the command line spells a setting, and how it is read from the words that come in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkcore.errors import expected

__all__ = ["SAME", "Option", "module_paths", "pair", "scalar_of", "sequence", "true_false_or", "weights", "words"]

SAME: Any = object()  # a default: that of the setting itself


@dataclass(frozen=True)
class Option:
    """The option of ``dkcore train`` for a setting. What is left out follows from the setting's name, type and default.

    Attributes:
        flags: such as ``--window``; two with a slash between them for a boolean.
        default: where it is another than the setting's.
        help: in place of the setting's.
        metavar: how its value is called.
        choices: the words that it may be.
        multiple: whether it may be repeated; element: the type of each.
        read: makes the setting of the value, or of the tuple of values.
        after: the option that it follows in the help; by default that of the setting before it.
    """

    flags: str = ""
    default: Any = SAME
    help: str | None = None
    metavar: str | None = None
    choices: Sequence[str] = ()
    multiple: bool = False
    element: type = str
    read: Callable[[Any], Any] = lambda value: value
    after: str | None = None


def sequence(values: tuple[Any, ...]) -> list[Any] | None:
    """The values of an option that may be repeated; None when it was not given."""
    return list(values) or None


def words(values: tuple[str, ...]) -> list[str] | None:
    """Likewise, where ``none`` asks for an empty list."""
    return [word for word in values if word != "none"] if values else None


def true_false_or(value: str | None) -> bool | str | None:
    """``true`` and ``false`` as booleans, other words as they are."""
    booleans: dict[str | None, bool] = {"true": True, "false": False}
    return booleans.get(value, value)


def module_paths(values: tuple[str, ...]) -> list[str]:
    """Names of modules as they are, files by their absolute paths."""
    return [str(Path(name).resolve()) if name.endswith(".py") else name for name in values]


def weights(values: tuple[str, ...]) -> dict[str, float] | None:
    """The weights of classes, of CLASS=WEIGHT."""
    return dict(pair(text, "--class-weight CLASS=WEIGHT", "--class-weight 1=3.0", lambda name: str(int(name))) for text in values) or None


def scalar_of(text: str) -> tuple[str, float]:
    """A hyper-parameter, of NAME=VALUE."""
    return pair(text, "--scalar NAME=VALUE", "--scalar alpha=0.1", str)


def pair(text: str, form: str, example: str, key: Callable[[str], str]) -> tuple[str, float]:
    """Both sides of an equals sign; ValueError when they are not a key and a number."""
    name, _, value = text.partition("=")
    try:
        return key(name), float(value)
    except ValueError:
        raise ValueError(expected(form, repr(text), f"Such as {example}.")) from None
