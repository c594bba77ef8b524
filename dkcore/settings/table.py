"""The table of all settings in the docs: ``python -m dkcore.settings`` writes it anew, in the checkout's docs/training.md."""

import sys
from pathlib import Path

from dkcore.errors import DataError, expected
from dkcore.settings.setting import Setting, camel, settings_of
from dkcore.settings.settings import Settings

__all__ = ["main", "table_of", "with_table"]

PAGE = Path("docs/training.md")
BEGIN, END = "<!-- table of settings: python -m dkcore.settings writes it -->", "<!-- end of the table of settings -->"
HEAD = ("setting", "trainers", "`dkcore train`", "Param of `KerasEstimator`", "default", "meaning")


def table_of(stated: type = Settings) -> str:
    """The settings that any front has, as a table in Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *(row_of(each) for each in settings_of(stated) if each.option or each.keyword or each.param)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def row_of(setting: Setting) -> tuple[str, ...]:
    keyword, option, param = setting.keyword, setting.option, setting.param
    said = " ".join(part for part in (setting.help, setting.more) if part)
    return (
        f"`{setting.name}`",
        "" if keyword is None else f"`train({keyword.name}=)`" if keyword.train else f"`{keyword.name}=`",
        "" if option is None else f"`{option.flags.partition('/')[0]}`",
        "" if param is None else f"`{camel(param.name)}`",
        default_of(setting),
        said.replace("|", "\\|"),
    )


def default_of(setting: Setting) -> str:
    """What holds when nobody gives it: in words, or as a number with its unit."""
    if setting.unset:
        return setting.unset
    fronts = [front.default for front in (setting.option, setting.keyword, setting.param) if front is not None]
    value = next((value for value in fronts if value not in (None, (), [], {})), None)
    return "" if value is None else f"{value} {setting.unit}".strip()


def with_table(page: str, stated: type = Settings) -> str:
    """A page with the table between its two marks; DataError when it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(expected(f"a page with {BEGIN} and {END}", "one without", "The table stands between them."))
    return f"{before}{BEGIN}\n{table_of(stated)}{END}{after}"


def main() -> None:
    """Write the table into the page that is named, by default the checkout's."""
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    if not page.is_file():
        sys.exit(expected("a page with the table of settings", str(page), "Run python -m dkcore.settings in the checkout, or name a page."))
    page.write_text(with_table(page.read_text()))
