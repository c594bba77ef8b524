"""Our Spark bridge, as a peer of elephas: the same Spark, rows, model and optimizer."""

import contextlib
import time

import numpy as np

from bench import perceptron
from bench.launched import stages
from bench.local_spark import session
from bench.peer import serve

__all__ = ["Ours"]


class Ours:
    """A session, and the training rows as we want them: a DataFrame."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
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
        options = {"num_workers": self.workers, "batch_size": perceptron.BATCH, "num_epoch": epochs}
        made = getattr(dkcore, trainer)(model, optimizer, perceptron.LOSS, **options)
        start = time.perf_counter()
        result = made.train(self.frame)
        seconds = time.perf_counter() - start
        perceptron.save(trained, result.get_weights())
        return {"seconds": seconds, **{name: made.report[name] for name in ("samples", "samples_per_s", "training_time_s", "startup_s")}}

    def launch(self, workers: int) -> dict:
        """When each stage of a launch was reached, in seconds after ``spark_bridge.run`` was called; of each rank."""
        import spark_bridge

        began = time.time()
        told = spark_bridge.run(stages, num_workers=workers, spark=self.spark)
        ended = time.time()
        return {"ranks": [{name: when - began for name, when in rank.items()} for rank in told], "returned": ended - began}

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
