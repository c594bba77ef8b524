"""``python -m bench.peers [PACKAGE...]``: install the peers that must not be in our own environment; those that are there stay.

Each gets a folder under build/, with the log of its installation. One that cannot be installed does not keep the others from it.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from bench.peers.table import DIST_KERAS, ENVIRONMENTS, absent

__all__ = ["install"]

# dist-keras comes without its dependencies of 2017; elephas wants an older TensorFlow, PySpark and numpy than ours.
REQUIREMENTS = {
    "dist-keras": ["--no-deps", "--target", str(DIST_KERAS), "dist-keras==0.2.1"],
    "elephas": ["elephas==7.3.0", "tensorflow-cpu==2.19.*", "pyspark==4.0.*"],
    "ray": ["ray==2.60.*", "numpy>=2"],
}


def install(package: str) -> str | None:
    """Install it if it is not there; why that failed."""
    absent.cache_clear()
    if absent(package) is None:
        return None
    place, python = ENVIRONMENTS.get(package, DIST_KERAS), Path(sys.executable)
    place.mkdir(parents=True, exist_ok=True)
    if package in ENVIRONMENTS:
        subprocess.run([python, "-m", "venv", "--clear", place], check=True)
        python = place / "bin" / "python"
    with open(place / "install.log", "wb") as log:
        command = [python, "-m", "pip", "install", "--disable-pip-version-check", *REQUIREMENTS[package]]
        subprocess.run(command, stdout=log, stderr=log, check=False)
    absent.cache_clear()
    return absent(package)


def main() -> int:
    """The exit code is 1 when one of them is still absent."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Install the peers that need an environment of their own.")
    parser.add_argument("package", nargs="*", help=f"of {', '.join(REQUIREMENTS)}; all of them when none is named")
    packages = parser.parse_args().package or list(REQUIREMENTS)
    if unknown := set(packages) - set(REQUIREMENTS):
        parser.error(f"expected some of {', '.join(REQUIREMENTS)}. Received: {', '.join(sorted(unknown))}.")
    found = {package: install(package) for package in packages}
    for package, reason in found.items():
        print(f"{package}: {reason or 'installed'}")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
