"""A subject of a crew: Keras alone, ``model.fit`` on MNIST as a user writes it, looked at after each epoch.

Imports Keras: only for processes whose environment names the backend.
"""

import time

import keras

from bench.subjects import perceptron
from bench.subjects.mnist_rows import mnist

__all__ = ["Learner"]


class Learner:
    """One process."""

    def __init__(self, index: int, workers: int) -> None:
        keras.utils.set_random_seed(index)

    def learn(self, epochs: int) -> dict:
        """Seconds since the begin, test loss and test accuracy after each epoch; samples a second of the epochs after the first."""
        x, y, x_test, y_test = mnist()
        model = perceptron.model(perceptron.born())
        model.compile(keras.optimizers.Adam(perceptron.LEARNING_RATE), perceptron.LOSS, metrics=["accuracy"])
        curve: dict = {"seconds": [], "loss": [], "accuracy": []}
        begun, fits = time.perf_counter(), []
        for _ in range(epochs):
            start = time.perf_counter()
            model.fit(x, y, batch_size=perceptron.BATCH, verbose=0)
            curve["seconds"].append(time.perf_counter() - begun)
            fits.append(time.perf_counter() - start)
            loss, accuracy = model.evaluate(x_test, y_test, batch_size=1000, verbose=0)
            curve["loss"].append(float(loss))
            curve["accuracy"].append(float(accuracy))
        timed = fits[1:] or fits  # the first has the compilation
        return curve | {"samples_per_s": len(x) * len(timed) / sum(timed)}
