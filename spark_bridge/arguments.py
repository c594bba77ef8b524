"""Arguments of stages: by our names or by those of their Params. What a value may be says `dkcore.arguments`."""

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from pyspark.ml.param import Param, Params

from dkcore.arguments import plain
from dkcore.errors import expected

__all__ = ["named", "nearest", "param", "resolve", "snake"]

Constructor: TypeAlias = Callable[..., None]


def param(name: str, doc: str, converter: Callable[[str, Any], Any] | None = None) -> Param[Any]:
    """A Param. converter: of its name and a value, to what is kept; an error of it names the Param."""
    return Param(Params._dummy(), name, doc, typeConverter=plain if converter is None else functools.partial(converter, name))


def named(**others: str) -> Callable[[Constructor], Constructor]:
    """Decorates a constructor, whose keyword arguments may then have the names of the Params, and others; and no unknown ones.

    others: further names, each with the argument that it means.
    """

    def decorate(constructor: Constructor) -> Constructor:
        given = [each for each in inspect.signature(constructor).parameters.values() if each.name != "self"]
        known = [each.name for each in given if each.kind is not inspect.Parameter.VAR_KEYWORD]
        free = len(known) < len(given)  # it looks at the others itself

        @functools.wraps(constructor)
        def construct(self: Any, *arguments: Any, **options: Any) -> None:
            options = resolve(type(self).__name__, options, known, others, free=free)
            if twice := [name for name, _ in zip(known, arguments, strict=False) if name in options]:
                raise TypeError(expected(f"{twice[0]} of {type(self).__name__} once", "two of it", "Leave one out."))
            constructor(self, *arguments, **options)

        return construct

    return decorate


def resolve(what: str, options: Mapping[str, Any], known: Iterable[str], others: Mapping[str, str], *, free: bool = False
            ) -> dict[str, Any]:  # fmt: skip
    """The options by their own names; TypeError, which names the nearest, for one that is none. free: leave those to the caller."""
    known, found = list(known), {}
    for name, value in options.items():
        argument = name if name in known else others.get(name, snake(name))
        if argument not in known and not free:
            raise TypeError(expected(f"an argument of {what}", f"{name}=, which is none", nearest(name, known)))
        if argument in found:
            raise TypeError(expected(f"{argument} of {what} once", f"{name}= as well", "Leave one out."))
        found[argument] = value
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """Advice: the known name that is most like this one, or all of them."""
    known = list(known)
    found = difflib.get_close_matches(snake(name), known, 1, 0.5)
    return f"The nearest is {found[0]}=." if found else f"There are {', '.join(known)}."


def snake(name: str) -> str:
    """The argument for a Param's name: ``features_col`` of ``featuresCol``."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
