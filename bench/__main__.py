"""``python -m bench``: run the suite (see the options below); ``pytest bench/ --benchmark-only`` is the same, with pytest's."""

import argparse
import sys
import tempfile
from pathlib import Path

import pytest

from bench.report.compare import THRESHOLD, compare
from bench.report.page import write_report
from bench.report.reading import Reading

ROOT = Path(__file__).parent


def main() -> int:
    """The exit code is pytest's: not 0 when a case failed, its verification above all; and 1 when ``--compare`` finds a regression.

    A goal that is missed is only shown.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure dkcore against its goals, its peers and the machine.")
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds: some minutes instead of half an hour")
    parser.add_argument("--only", metavar="PATTERN", help="only figures whose key matches, for instance exchange_us or 'vs_*/1000000/*'")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures as flat keys")
    said = "write REPORT.md, report.json and plots/ into a folder (default: bench)"
    parser.add_argument("--report", metavar="DIR", type=Path, nargs="?", const=ROOT, help=said)
    said = "what became slower or faster beyond the noise since OLD.json; with NEW.json, between the two, and nothing is run"
    parser.add_argument("--compare", metavar=("OLD.json", "NEW.json"), type=Path, nargs="+", help=said)
    said = f"what is worse by more than this part is a regression: exit code 1 (default: {THRESHOLD:g})"
    parser.add_argument("--threshold", metavar="R", type=float, default=THRESHOLD, help=said)
    options = parser.parse_args()
    if options.compare and len(options.compare) > 2:
        parser.error("Expected --compare OLD.json, or --compare OLD.json NEW.json. Received: more files.")
    try:
        old, *new = [Reading.load(path) for path in options.compare or []] or [None]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if new:
        return compared(old, new[0], options)
    with tempfile.TemporaryDirectory(prefix="dkcore-bench-") as folder:
        written = options.json or Path(folder) / "report.json"
        code = run(options, written)
        if not written.exists():  # pytest refused its arguments, and said why
            return code
        found = Reading.load(written)
        if options.report:
            write_report(found, options.report)
        return code or (compared(old, found, options) if old else 0)


def run(options: argparse.Namespace, written: Path) -> int:
    """The exit code of pytest; the figures are in a file."""
    arguments = [
        str(ROOT),
        "-c",
        str(ROOT / "pytest.ini"),
        "--benchmark-only",
        "--benchmark-quiet",
        "-q",
        "--tb=short",
        f"--json={written}",
    ]
    arguments += ["--quick"] if options.quick else []
    arguments += [f"--only={options.only}"] if options.only else []
    return int(pytest.main(arguments))


def compared(old: Reading, new: Reading, options: argparse.Namespace) -> int:
    """1 when something regressed."""
    found = compare(old, new, options.threshold, options.only)
    found.print()
    return int(found.regressed)


if __name__ == "__main__":
    sys.exit(main())
