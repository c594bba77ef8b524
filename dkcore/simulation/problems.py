"""What a simulation may learn: MNIST's digits with a small perceptron in numpy, or a quadratic."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from dkcore import mnist
from dkcore.data.npz import open_npz

__all__ = ["Digits", "Perceptron", "Quadratic"]

DIGITS = 4000  # of MNIST's 60,000: few enough that workers overfit and orderings show
TESTED = 2000
SIZES = (784, 128, 128, 10)


class Perceptron:
    """Dense layers with ReLU, and a softmax, over one flat vector of float32 weights; the gradient is written out by hand."""

    def __init__(self, sizes: tuple[int, ...] = SIZES):
        self.shapes = list(pairwise(sizes))
        self.size = sum((fan_in + 1) * fan_out for fan_in, fan_out in self.shapes)
        self.slope = np.empty(self.size, np.float32)

    def layers(self, vector: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Views (kernel, bias) of each layer."""
        found, at = [], 0
        for fan_in, fan_out in self.shapes:
            middle, end = at + fan_in * fan_out, at + (fan_in + 1) * fan_out
            found.append((vector[at:middle].reshape(fan_in, fan_out), vector[middle:end]))
            at = end
        return found

    def start(self, seed: int) -> np.ndarray:
        """Glorot and Bengio's uniform kernels (2010) and biases of zero, as Keras begins."""
        random, weights = np.random.default_rng(seed), np.zeros(self.size, np.float32)
        for kernel, _ in self.layers(weights):
            limit = (6 / sum(kernel.shape)) ** 0.5
            kernel[:] = random.uniform(-limit, limit, kernel.shape)
        return weights

    def outputs(self, weights: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
        """What each layer gives, x first and the softmax' probabilities last."""
        layers, found = self.layers(weights), [x]
        for kernel, bias in layers:
            found.append(found[-1] @ kernel + bias)
            if len(found) <= len(layers):
                np.maximum(found[-1], 0, out=found[-1])
        last = found[-1]
        last -= last.max(1, keepdims=True)
        np.exp(last, out=last)
        last /= last.sum(1, keepdims=True)
        return found

    def gradient(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Of the mean cross-entropy; valid until the next call. x: (batch, inputs) float32. y: (batch,) classes."""
        outputs, layers = self.outputs(weights, x), self.layers(weights)
        error = outputs.pop()
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        for (kernel, _), (slope, bias) in zip(layers[::-1], self.layers(self.slope)[::-1], strict=True):
            below = outputs.pop()
            np.matmul(below.T, error, out=slope)
            error.sum(0, out=bias)
            if outputs:
                error = error @ kernel.T
                error *= below > 0
        return self.slope


class Digits:
    """The first 4,000 digits of MNIST, divided among workers as in a job, each in its own random order; tested on 2,000 others."""

    def __init__(self, workers: int, *, batch_size: int = 32, seed: int = 0, model: Perceptron | None = None):
        arrays = open_npz(mnist.load())
        self.model, self.seed, self.batch_size = model or Perceptron(), seed, batch_size
        self.size = self.model.size
        self.x, self.x_test = (flat(arrays[key][:count]) for key, count in (("x_train", DIGITS), ("x_test", TESTED)))
        self.y, self.y_test = (np.asarray(arrays[key][:count], np.int64) for key, count in (("y_train", DIGITS), ("y_test", TESTED)))
        self.batches = [self.batches_of(worker, workers) for worker in range(workers)]

    def batches_of(self, worker: int, workers: int) -> Iterator[np.ndarray]:
        """Indices of one batch after another, without end; the last of an epoch may be smaller."""
        random, own = np.random.default_rng([self.seed, worker]), np.arange(DIGITS)[worker::workers]
        while True:
            random.shuffle(own)
            for begin in range(0, len(own), self.batch_size):
                yield own[begin : begin + self.batch_size].copy()

    def start(self) -> np.ndarray:
        return self.model.start(self.seed)

    def gradient(self, worker: int) -> Callable[[np.ndarray], np.ndarray]:
        chosen = next(self.batches[worker])
        x, y = self.x[chosen], self.y[chosen]
        return lambda weights: self.model.gradient(weights, x, y)

    def evaluate(self, weights: np.ndarray) -> dict[str, float]:
        if not np.isfinite(weights).all():
            return {"loss": float("inf"), "accuracy": float(np.mean(self.y_test == 0))}  # what a model of NaN predicts
        likely = self.model.outputs(weights, self.x_test)[-1]
        found = likely[np.arange(TESTED), self.y_test]
        accuracy = float(np.mean(likely.argmax(1) == self.y_test))
        return {"loss": float(-np.log(np.maximum(found, 1e-30)).mean()), "accuracy": accuracy}


class Quadratic:
    """``sum(w**2) / 2`` with noise in the gradient: everything about a rule's stability shows on it."""

    def __init__(self, size: int = 8, *, noise: float = 0.0, begin: float = 1.0, seed: int = 0):
        self.size, self.noise, self.begin, self.random = size, noise, begin, np.random.default_rng(seed)

    def start(self) -> np.ndarray:
        return np.full(self.size, self.begin)

    def gradient(self, worker: int) -> Callable[[np.ndarray], np.ndarray]:
        noise = self.noise * self.random.standard_normal(self.size) if self.noise else 0.0
        return lambda weights: weights + noise

    def evaluate(self, weights: np.ndarray) -> dict[str, float]:
        return {"loss": float(np.square(weights).sum() / 2)}


def flat(images: np.ndarray) -> np.ndarray:
    """Grey levels as float32 of 0 to 1, a row an image."""
    return images.reshape(len(images), -1) / np.float32(255)
