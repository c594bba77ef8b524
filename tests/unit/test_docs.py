"""The docs name only what is there: links, files, modules, commands, options; and their Python examples are Python."""

import re
from pathlib import Path

import click
import pytest

from dkcore.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = ("dkcore", "spark_bridge", "src_ext", "bindings", "bench", "tests", "examples", "docs")
FILES = [f"/{file.relative_to(ROOT)}" for folder in SOURCES for file in (ROOT / folder).rglob("*") if file.is_file()]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def text_of(page: Path) -> str:
    """A page without its blocks of code."""
    return BLOCK.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    named = {name for name in re.findall(r"`([\w./-]+\.(?:py|pyx|c|h))`", text_of(page)) if "NAME" not in name}
    assert [name for name in sorted(named) if not any(file.endswith(f"/{name}") for file in FILES)] == []
    modules = {module.replace(".", "/") for module in re.findall(r"python -m ((?:dkcore|spark_bridge|bench)[\w.]*)", page.read_text())}
    assert all(any(f"/{module}{end}.py" in FILES for end in ("", "/__main__")) for module in modules), modules


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_are_named(page):
    for command, rest in re.findall(r"\bdkcore (train|run|simulate)\b([^`\n#]*)", page.read_text()):
        parameters = main.commands[command].get_params(click.Context(main))
        known = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
        script = re.search(r"\S+\.py(?!:)", rest)  # what follows is the script's own
        named = re.findall(r"(?<!\S)(--?[a-z][\w-]*)", rest[: script.start()] if script else rest)
        assert set(named) <= known | {"--help"}, (command, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_are_python(page):
    for language, code in BLOCK.findall(page.read_text()):
        if language == "python":
            compile(code.replace("...)", ")"), page.name, "exec")


def test_the_commands_of_the_readme_are_targets():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"demo", "test"} <= set(re.findall(r"^make ([\w-]+)", (ROOT / "README.md").read_text(), re.M)) <= targets


def test_the_table_of_rooms_has_every_room():
    rooms = {f"`dkcore/{file.parent.name}/`" for file in (ROOT / "dkcore").glob("*/__init__.py")}
    assert rooms and all(f"| {room}" in (ROOT / "docs" / "architecture.md").read_text() for room in rooms), rooms
