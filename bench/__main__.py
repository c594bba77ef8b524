"""``python -m bench``: run the suite (see the options below); ``pytest bench/ --benchmark-only`` is the same, with pytest's."""

import argparse
import sys
from pathlib import Path

import pytest


def main() -> int:
    """The exit code is pytest's: not 0 when a case failed, its verification above all. A goal that is missed is only shown."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure dkcore against its goals and its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds: less than 2 minutes instead of 10")
    parser.add_argument("--only", metavar="PATTERN", help="only figures whose key matches, for instance exchange_us or 'vs_*/1000000/*'")
    parser.add_argument("--json", metavar="FILE", help="write the figures as flat keys")
    options = parser.parse_args()
    root = Path(__file__).parent
    arguments = [str(root), "-c", str(root / "pytest.ini"), "--benchmark-only", "--benchmark-quiet", "-q", "--tb=short"]
    arguments += ["--quick"] if options.quick else []
    arguments += [f"--only={options.only}"] if options.only else []
    arguments += [f"--json={options.json}"] if options.json else []
    return pytest.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
