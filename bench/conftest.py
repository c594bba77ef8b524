"""How pytest runs the suite: options, cases, the fixture ``turns``, and the report at the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.harness.clock import Clock
from bench.harness.kept import Kept
from bench.harness.turns import Turns
from bench.report.report import Report

CLOCK = Clock()
REPORT = pytest.StashKey[Report]()
FIRST = "bench_roof.py"  # what all else is measured against


def pytest_addoption(parser):
    group = parser.getgroup("dkcore")
    group.addoption("--quick", action="store_true", help="fewer cases and rounds")
    group.addoption("--only", metavar="PATTERN", help="only cases with a figure whose key matches")
    group.addoption("--json", metavar="FILE", type=Path, help="write the figures as flat keys")


def pytest_configure(config):
    config.stash[REPORT] = Report(config.getoption("quick"), config.getoption("only"))


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases = metafunc.module.cases(metafunc.config.getoption("quick"))
        about = (metafunc.module.__doc__ or "").split("\n\n")[0].strip()
        # Also those that a quick run leaves out: it may leave out cases, but no question.
        metafunc.config.stash[REPORT].ask(about, (key for case in [*cases, *metafunc.module.cases(False)] for key in case.keys))
        marks = [[pytest.mark.figures(*case.keys), pytest.mark.benchmark(timer=CLOCK, group=case.question)] for case in cases]
        metafunc.parametrize("case", [pytest.param(case, id=case.keys[0], marks=m) for case, m in zip(cases, marks, strict=True)])


def pytest_collection_modifyitems(config, items):
    pattern = config.getoption("only")
    if pattern:
        wanted = {True: [], False: []}
        for item in items:
            wanted[item.callspec.params["case"].matches(pattern)].append(item)
        config.hook.pytest_deselected(items=wanted[False])
        items[:] = wanted[True]
    items.sort(key=lambda item: item.path.name != FIRST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A case that fails, is skipped, or gives less than it promised leaves its keys in the report, with the reason."""
    result = yield
    report, keys = item.config.stash[REPORT], item.get_closest_marker("figures").args
    missing = [key for key in keys if key not in report.figures and key not in report.absent]
    if result.skipped:
        report.absent |= dict.fromkeys(missing, str(result.longrepr[2]).removeprefix("Skipped: "))
    elif result.failed:
        report.failed = dict.fromkeys(missing, call.excinfo.exconly().splitlines()[0]) | report.failed
    elif call.when == "call" and missing:
        result.outcome, result.longrepr = "failed", f"no figure for {', '.join(missing)}"
        report.failed |= dict.fromkeys(missing, "the case ended without it")
    return result


def pytest_terminal_summary(config):
    report = config.stash[REPORT]
    if report.figures or report.absent or report.failed:
        report.print()


def pytest_sessionfinish(session):
    """A question that nobody answered, not even by a reason, fails the run."""
    config, report = session.config, session.config.stash[REPORT]
    if not (config.getoption("only") or config.option.collectonly) and report.unanswered():
        for question in report.unanswered():
            report.failed[question] = "no case of this run asks this question"
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
    if path := config.getoption("json"):
        report.write(path)


@pytest.fixture(scope="session")
def quick(request) -> bool:
    """Fewer rounds?"""
    return request.config.getoption("quick")


@pytest.fixture
def turns(benchmark, request) -> Turns:
    """Runs the sides of this case in turn."""
    return Turns(benchmark, CLOCK, request.config.stash[REPORT])


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    """What the cases of a file hand on to each other."""
    with Kept() as made:
        yield made
