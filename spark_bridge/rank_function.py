"""One rank of `spark_bridge.run`: a script that calls the function which lies pickled in the job's directory."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from dkcore.ranks.status import DIRECTORY

FUNCTION, RESULT = "function.pickle", "result-{}.pickle"


def main() -> None:
    import dkcore

    cloudpickle = alone("pyspark", "cloudpickle")

    home = Path(os.environ[DIRECTORY])
    function, arguments, keywords = cloudpickle.loads((home / FUNCTION).read_bytes())
    result = function(*arguments, **keywords)
    (home / RESULT.format(dkcore.init().rank)).write_bytes(cloudpickle.dumps(result))


def alone(package: str, name: str) -> ModuleType:
    """A subpackage without the rest of its package, which imports for half a second what a rank does not need."""
    specification = None if package in sys.modules else importlib.util.find_spec(package)
    if specification is None:  # imported already; or not installed, as the import says
        return importlib.import_module(f"{package}.{name}")
    parent = importlib.util.module_from_spec(specification)
    sys.modules[package] = parent
    try:
        return importlib.import_module(f"{package}.{name}")
    finally:
        del sys.modules[package]


if __name__ == "__main__":
    main()
