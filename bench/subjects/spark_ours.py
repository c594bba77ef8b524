"""Our Spark bridge, as a peer of elephas: the same Spark, rows, model and optimizer."""

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.harness.peer import serve
from bench.subjects import launched, perceptron
from bench.subjects.local_spark import session

__all__ = ["Ours"]


class Ours:
    """A session, and the training rows as we want them: a DataFrame."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        # Spark's Java, which starts next, and so each rank has this.
        self.told = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="dkcore-bench-")))
        os.environ[launched.FOLDER] = str(self.told)
        self.spark = session(self.stack)

    def load(self, data: str, workers: int) -> int:
        """Take the rows of an .npz; how many there are."""
        import pyarrow as pa

        from spark_bridge.arrow import to_arrow

        with np.load(data) as file:
            table = pa.table({"features": to_arrow(file["x"]), "label": to_arrow(file["y"])})
        self.frame = self.spark.createDataFrame(table).repartition(workers).cache()
        self.workers = workers
        return self.frame.count()

    def train(self, trainer: str, epochs: int, weights: str, trained: str) -> dict:
        """The whole of ``train``: how long it took, and what its report says."""
        import keras

        import dkcore

        model, optimizer = perceptron.model(perceptron.load(weights)), keras.optimizers.Adam(perceptron.LEARNING_RATE)
        options = {"num_workers": self.workers, "batch_size": perceptron.BATCH, "num_epoch": epochs, "custom_modules": [launched.__file__]}
        made = getattr(dkcore, trainer)(model, optimizer, perceptron.LOSS, **options)
        began = time.time()
        result = made.train(self.frame)
        seconds = time.time() - began
        perceptron.save(trained, result.get_weights())
        return {"seconds": seconds, "samples": made.report["samples"], "stages": self.stages(began, seconds, made.report)}

    def stages(self, began: float, seconds: float, report: dict) -> list[dict]:
        """When each stage of a training was reached, in seconds after it began; of each rank."""
        told = []
        for path in self.told.iterdir():
            told.append({name: when - began for name, when in json.loads(path.read_text()).items()})
            path.unlink()
        ready = max(rank["ready"] for rank in told if "ready" in rank)
        first = ready + report["startup_s"]
        common = {"ready": ready, "first": first, "trained": first + report["training_time_s"], "returned": seconds}
        return [{**rank, **common} for rank in told]

    def launch(self, workers: int) -> list[dict]:
        """When each stage of a launch was reached, in seconds after ``spark_bridge.run`` was called; of each rank."""
        import spark_bridge

        began = time.time()
        told = spark_bridge.run(launched.stages, num_workers=workers, spark=self.spark)
        seconds = time.time() - began
        return [{**{name: when - began for name, when in rank.items()}, "returned": seconds} for rank in told]

    def versions(self) -> str:
        """What takes part."""
        import keras
        import pyspark

        return f"{keras.backend.backend()}, keras {keras.__version__}, pyspark {pyspark.__version__}"

    def close(self) -> None:
        """Stop Spark."""
        self.stack.close()


if __name__ == "__main__":
    serve(Ours())
