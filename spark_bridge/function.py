"""One rank of `spark_bridge.run`: a script that calls the function which lies pickled in the job's directory."""

import os
from pathlib import Path

from dkcore.worker import DIRECTORY

FUNCTION, RESULT = "function.pickle", "result-{}.pickle"


def main() -> None:
    from pyspark import cloudpickle

    import dkcore

    home = Path(os.environ[DIRECTORY])
    function, arguments, keywords = cloudpickle.loads((home / FUNCTION).read_bytes())
    result = function(*arguments, **keywords)
    (home / RESULT.format(dkcore.init().rank)).write_bytes(cloudpickle.dumps(result))


if __name__ == "__main__":
    main()
