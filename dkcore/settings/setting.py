"""One setting of a training, as it is stated: what all fronts say of it, how each of them spells it, and how its value is checked.

Settings are the fields of `dkcore.settings.settings.Settings`. Of what is stated there come the options of ``dkcore train``
(dkcore/commands/job_command.py), the arguments of the trainers (keywords.py), the Params of ``KerasEstimator``, and the table in
docs/training.md (table.py).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import UnionType
from typing import Any, get_args

from dkcore.settings.option import SAME, Option

__all__ = ["Argument", "Setting", "camel", "internal", "placed", "setting", "settings_of"]


@dataclass(frozen=True)
class Argument:
    """How a function in Python spells a setting. What is left out follows from the setting.

    Attributes:
        name: of the argument.
        default: where it is another than the setting's.
        after: the argument that it follows; by default that of the setting before it.
        train: whether `Trainer.train` takes it, rather than the constructor.
    """

    name: str = ""
    default: Any = SAME
    after: str | None = None
    train: bool = False


@dataclass(frozen=True)
class Setting:
    """What is stated of a setting.

    Attributes:
        help: one sentence for all fronts.
        check: of its name and a value, to what is kept; it raises TypeError or ValueError for what cannot be meant.
        unit: of a number.
        more: further sentences, where there is room for them.
        unset: what holds where it is None, in words.
        objects: whether its value may be, or contain, objects of Keras; a job keeps them as plain data.
        option: of ``dkcore train``; keyword: of the trainers; param: of ``KerasEstimator``, with the Param's name in snake case.
            None where a front does not have it.
        name, default, types: of the field that it is stated for.
    """

    help: str
    check: Callable[[str, Any], Any]
    unit: str = ""
    more: str = ""
    unset: str = ""
    objects: bool = False
    option: Option | None = None
    keyword: Argument | None = None
    param: Argument | None = None
    name: str = ""
    default: Any = None
    types: tuple[type, ...] = ()

    def checked(self, value: Any) -> Any:
        """The value as a job keeps it. None is taken where it is the default."""
        return None if value is None and self.default is None else self.check(self.name, value)

    def sentences(self) -> str:
        """Help and more, and what holds without it."""
        unset = f"By default {self.unset}." if self.unset else ""
        return " ".join(part for part in (self.help, self.more, unset) if part)


def setting(default: Any, help: str, *, check: Callable[[str, Any], Any], option: Option | None = Option(),
            keyword: Argument | None = Argument(), param: Argument | None = Argument(), **stated: Any) -> Any:  # fmt: skip
    """A field of a dataclass, stated for all fronts; see `Setting`."""
    metadata = {"setting": Setting(help, check, option=option, keyword=keyword, param=param, **stated)}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def internal(default: Any, help: str, *, check: Callable[[str, Any], Any], **stated: Any) -> Any:
    """A field that no user sets: the fronts write it."""
    return setting(default, help, check=check, option=None, keyword=None, param=None, **stated)


@functools.cache
def settings_of(job: type) -> tuple[Setting, ...]:
    """The settings of a dataclass in their order, with all that follows from its fields."""
    return tuple(complete(field) for field in dataclasses.fields(job))


def complete(field: dataclasses.Field[Any]) -> Setting:
    """What is stated for a field, with its name, its default and its types, and the names and defaults of the fronts."""
    stated: Setting = field.metadata["setting"]
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    types = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
    option, keyword = stated.option, argument(stated.keyword, Argument(field.name, default))
    param = argument(stated.param, keyword or Argument(field.name, default))
    if option is not None:
        flag = "--" + field.name.replace("_", "-")
        flags = option.flags or (f"{flag}/--no-{flag[2:]}" if bool in types and not option.choices else flag)
        option = dataclasses.replace(option, flags=flags, default=default if option.default is SAME else option.default)
    return dataclasses.replace(stated, name=field.name, default=default, types=types, option=option, keyword=keyword, param=param)


def argument(stated: Argument | None, follows: Argument) -> Argument | None:
    """An argument with what it leaves out, as it follows."""
    if stated is None:
        return None
    default = follows.default if stated.default is SAME else stated.default
    return Argument(stated.name or follows.name, default, stated.after or follows.after, stated.train)


def camel(name: str) -> str:
    """The name of a Param for an argument.

    >>> camel("num_workers")
    'numWorkers'
    """
    first, *more = name.split("_")
    return first + "".join(map(str.capitalize, more))


def placed(own: Iterable[str], more: Iterable[tuple[str, str | None]], start: str) -> list[str]:
    """Names in order: a front's own, and each of the others after the one that it names, or after the one before; the first after start.

    >>> placed(["model", "hosts"], [("workers", None), ("epochs", None), ("batch_size", "workers"), ("modules", "hosts")], "model")
    ['model', 'workers', 'batch_size', 'epochs', 'hosts', 'modules']
    """
    order, last = list(own), start
    for name, after in more:
        if name not in order:
            order.insert(order.index(after or last) + 1, name)
            last = name
    return order
