"""The perceptron 784-500-500-10 of the comparisons on Spark, as plain arrays, so that two environments begin with the same weights.

Needs numpy; Keras only where a model is made.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np

__all__ = ["BATCH", "LEARNING_RATE", "LOSS", "accuracy", "born", "load", "loss", "model", "save"]

WIDTHS = (784, 500, 500, 10)
BATCH, LEARNING_RATE, LOSS = 32, 0.001, "sparse_categorical_crossentropy"  # and Adam


def born(seed: int = 0) -> list[np.ndarray]:
    """Weights as Keras draws them (Glorot and Bengio 2010), and biases of zero."""
    random, made = np.random.default_rng(seed), []
    for inputs, outputs in pairwise(WIDTHS):
        limit = np.sqrt(6 / (inputs + outputs))
        made += [random.uniform(-limit, limit, (inputs, outputs)).astype(np.float32), np.zeros(outputs, np.float32)]
    return made


def model(weights: list[np.ndarray]):
    """As a Keras model, not compiled."""
    import keras

    *hidden, last = WIDTHS[1:]
    layers = [keras.Input(WIDTHS[:1]), *(keras.layers.Dense(width, activation="relu") for width in hidden)]
    made = keras.Sequential([*layers, keras.layers.Dense(last, activation="softmax")])
    made.set_weights(weights)
    return made


def accuracy(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    """Of the perceptron with these weights; computed here, whoever trained it."""
    return float((logits(weights, x).argmax(1) == y).mean())


def loss(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    """Its mean cross entropy, in nats."""
    found = logits(weights, x)
    found -= found.max(1, keepdims=True)
    return float((np.log(np.exp(found).sum(1)) - found[np.arange(len(y)), y]).mean())


def logits(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = np.maximum(x @ kernel + bias, 0)
    return x @ weights[-2] + weights[-1]


def save(path: str | Path, weights: list[np.ndarray]) -> None:
    np.savez(path, *weights)


def load(path: str | Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[f"arr_{index}"] for index in range(len(file.files))]
