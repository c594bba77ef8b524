"""The arguments of functions in Python that settings have: for their signature, their docstring, and what they are given."""

import functools
import operator
import textwrap
from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar

from dkcore.settings.setting import Argument, Setting, placed, settings_of
from dkcore.settings.settings import Settings

__all__ = ["ARGUMENTS", "divided", "documented", "keywords_of", "names_of", "with_settings"]

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type[Any])
ARGUMENTS = "{arguments of settings}"  # in a docstring: their place


def keywords_of(front: str = "keyword") -> Iterator[tuple[Setting, Argument]]:
    """The settings that the constructor of a trainer takes, or those that are a ``param`` of ``KerasEstimator``."""
    for each in settings_of(Settings):
        argument = getattr(each, front)
        if argument is not None and not argument.train:
            yield each, argument


def divided(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings by their names in a job, defaults for those that were not given; and the arguments that are no settings."""
    settings = {each.name: given.get(argument.name, argument.default) for each, argument in keywords_of()}
    known = {argument.name for _, argument in keywords_of()}
    return settings, {name: value for name, value in given.items() if name not in known}


def with_settings(start: str, front: str = "keyword") -> Callable[[Function], Function]:
    """Decorates a function that takes settings among its ``**``: its signature names them, the first after the argument ``start``."""

    def decorate(function: Function) -> Function:
        own = signature(function)
        more = {argument.name: parameter(each, argument) for each, argument in keywords_of(front)}
        order = placed(own.parameters, ((argument.name, argument.after) for _, argument in keywords_of(front)), start)
        known = more | dict(own.parameters)
        vars(function)["__signature__"] = Signature([known[name] for name in order], return_annotation=own.return_annotation)
        return function

    return decorate


def parameter(setting: Setting, argument: Argument) -> Parameter:
    types = setting.types
    if argument.default is None and type(None) not in types and Any not in types:
        types = (*types, type(None))
    annotation = functools.reduce(operator.or_, types)
    return Parameter(argument.name, Parameter.KEYWORD_ONLY, default=argument.default, annotation=annotation)


def documented(front: str = "keyword") -> Callable[[Class], Class]:
    """Decorates a class whose docstring has `ARGUMENTS` among its arguments: what is said of each setting takes its place."""

    def decorate(kind: Class) -> Class:
        if kind.__doc__:  # Python -OO has none
            said = {argument.name: each.sentences() for each, argument in keywords_of(front)}
            entries = [f"{name}: {said[name]}" for name in constructor_of(kind).parameters if name in said]
            wrapped = [textwrap.fill(entry, 128, initial_indent=" " * 8, subsequent_indent=" " * 12) for entry in entries]
            kind.__doc__ = kind.__doc__.replace(" " * 8 + ARGUMENTS, "\n".join(wrapped))
        return kind

    return decorate


def constructor_of(kind: type[Any]) -> Signature:
    return signature(kind.__init__)


def names_of(kind: type) -> list[str]:
    """The arguments of a constructor, those that it hands on to its base included."""
    kinds = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    given = [each for base in kind.__mro__[:-1] for each in constructor_of(base).parameters.values() if each.kind in kinds]
    return [name for name in dict.fromkeys(each.name for each in given) if name != "self"]
