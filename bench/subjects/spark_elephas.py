"""elephas 7.3.0, as a peer: its own asynchronous model, worker and server, from its package, in its own environment.

``python -m bench.peers elephas`` installs it beside this project, never into it, for it wants TensorFlow 2.19, PySpark 4.0 and numpy 1;
nothing of it is copied here. Run by its interpreter: see `bench.questions.bench_spark`.
"""

import contextlib
import time

import numpy as np

from bench.harness.peer import serve
from bench.subjects import perceptron
from bench.subjects.local_spark import session

__all__ = ["Elephas"]


class Elephas:
    """A session, and the training rows as elephas wants them: an RDD of pairs."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.spark = session(self.stack)

    def load(self, data: str, workers: int) -> int:
        """Take the rows of an .npz; how many there are."""
        from elephas.utils.rdd_utils import to_simple_rdd

        with np.load(data) as file:
            self.rdd = to_simple_rdd(self.spark.sparkContext, file["x"], file["y"]).repartition(workers).cache()
        return self.rdd.count()

    def train(self, frequency: str, epochs: int, weights: str, trained: str) -> dict:
        """Its whole ``fit``: how long it took. frequency: of its exchanges, "epoch" (its default) or "batch"."""
        import keras
        from elephas.spark_model import AsynchronousSparkModel

        model = perceptron.model(perceptron.load(weights))
        model.compile(keras.optimizers.Adam(perceptron.LEARNING_RATE), perceptron.LOSS, metrics=["accuracy"])
        # Without num_workers, as in its documentation: the rows are in as many partitions, and it would shuffle them each time.
        wrapped = AsynchronousSparkModel(model, frequency=frequency, batch_size=perceptron.BATCH)
        start = time.perf_counter()
        wrapped.fit(self.rdd, epochs=epochs, batch_size=perceptron.BATCH, verbose=0, validation_split=0.0)
        seconds = time.perf_counter() - start
        perceptron.save(trained, wrapped.master_network.get_weights())
        return {"seconds": seconds}

    def versions(self) -> str:
        """What takes part."""
        from importlib.metadata import version

        return ", ".join(f"{name} {version(name)}" for name in ("elephas", "tensorflow-cpu", "keras", "pyspark"))

    def close(self) -> None:
        """Stop Spark."""
        self.stack.close()


if __name__ == "__main__":
    serve(Elephas())
