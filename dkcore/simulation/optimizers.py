"""Local optimizers: what a simulated worker does between two exchanges.

Each is made for an array like the weights, and called with weights, which it changes in place, and their gradient.
"""

import ctypes
from collections.abc import Callable

import numpy as np

from dkcore.arrays import Array
from dkcore.engine.compile import compile_kernel
from dkcore.formula.rule import formula

__all__ = ["SGD", "STEPS", "Adam", "Nesterov"]

Gradient = Callable[[np.ndarray], np.ndarray]


class SGD:
    """``w -= lr * g(w)``."""

    def __init__(self, like: np.ndarray, learning_rate: float = 0.1):
        self.rate = learning_rate

    def __call__(self, weights: np.ndarray, gradient: Gradient) -> None:
        weights -= weights.dtype.type(self.rate) * gradient(weights)


class Nesterov:
    """``v = momentum * v - lr * g(w + momentum * v);  w += v``. Nesterov 1983; as in Zhang, Choromanska, LeCun 2015."""

    def __init__(self, like: np.ndarray, learning_rate: float = 0.1, momentum: float = 0.9):
        self.rate, self.momentum, self.velocity = learning_rate, momentum, np.zeros_like(like)

    def __call__(self, weights: np.ndarray, gradient: Gradient) -> None:
        real, velocity = weights.dtype.type, self.velocity
        velocity *= real(self.momentum)
        ahead = gradient(weights + velocity)
        velocity -= real(self.rate) * ahead
        weights += velocity


@formula("w", "m", "v")
def adam(w: Array, m: Array, v: Array, g: Array, *, rate: float, fresh: float, fresh_square: float, epsilon: float) -> tuple[Array, ...]:
    """fresh: what the means take of the gradient, 1 - beta. rate: the learning rate, with the correction for their start at zero."""
    m = m + (g - m) * fresh
    v = v + (g * g - v) * fresh_square
    return w - m / (np.sqrt(v) + epsilon) * rate, m, v


class Adam:
    """Adam with Keras' defaults, in one pass over memory. Kingma, Ba 2015, arXiv 1412.6980."""

    def __init__(self, like: np.ndarray, learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7):
        self.rate, self.betas, self.epsilon, self.time = learning_rate, (beta_1, beta_2), epsilon, 0
        self.mean, self.square = np.zeros_like(like), np.zeros_like(like)
        self.kernel = compile_kernel(adam, like.dtype)  # kept: it owns the code
        self.run = self.kernel.native

    def __call__(self, weights: np.ndarray, gradient: Gradient) -> None:
        slope, (beta_1, beta_2) = np.ascontiguousarray(gradient(weights), weights.dtype), self.betas
        self.time += 1
        rate = self.rate * (1 - beta_2**self.time) ** 0.5 / (1 - beta_1**self.time)
        vectors = (ctypes.c_void_p * 4)(*[vector.ctypes.data for vector in (weights, self.mean, self.square, slope)])
        self.run(weights.size, vectors, (ctypes.c_double * 4)(rate, 1 - beta_1, 1 - beta_2, self.epsilon))


STEPS = {"sgd": SGD, "nesterov": Nesterov, "adam": Adam}
