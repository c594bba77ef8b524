"""The options of the command line that settings have: a command makes them when they are asked for, not on import."""

import functools
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dkcore.settings.option import Option
    from dkcore.settings.setting import Setting

__all__ = ["JobCommand", "option_of"]


class JobCommand(click.Command):
    """A command that has an option for each setting that has one; they come after its own ``--trainer``."""

    @functools.cached_property
    def of_settings(self) -> dict[str, click.Option]:
        """The options, by the names of the settings."""
        from dkcore.settings.setting import settings_of
        from dkcore.settings.settings import Settings

        return {each.name: option_of(each, each.option) for each in settings_of(Settings) if each.option}

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        from dkcore.settings.setting import placed, settings_of
        from dkcore.settings.settings import Settings

        known = {parameter.name: parameter for parameter in super().get_params(context)}
        order = placed(known, ((each.name, each.option.after) for each in settings_of(Settings) if each.option), "trainer")
        return [(known | self.of_settings)[name] for name in order]


def option_of(setting: "Setting", option: "Option") -> click.Option:
    """The option of click for a setting."""
    text = setting.help if option.help is None else option.help
    if setting.unset and option.default is None:
        text = f"{text} [default: {setting.unset}]".strip()
    shown = option.default is not None and not option.multiple
    default, kind = option.default if shown else None, type_of(setting, option)
    return click.Option(
        [setting.name, *option.flags.split()], type=kind, metavar=option.metavar,
        default=default, show_default=shown, multiple=option.multiple, help=text or None,
    )  # fmt: skip


def type_of(setting: "Setting", option: "Option") -> "click.ParamType[Any] | type":
    """What an option's words are read as."""
    if option.choices:
        return click.Choice(option.choices)
    if option.multiple:
        return option.element
    if "/" in option.flags:
        return bool
    return next((kind for kind in (str, float, int) if kind in setting.types), str)
