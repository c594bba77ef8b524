"""Local optimizers in numpy: what a simulated worker does between two exchanges.

Each is made for an array like the weights, and called with weights, which it changes in place, and their gradient.
"""

from collections.abc import Callable

import numpy as np

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


class Adam:
    """Adam with Keras' defaults. Kingma, Ba 2015, arXiv 1412.6980."""

    def __init__(self, like: np.ndarray, learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7):
        self.rate, self.betas, self.epsilon, self.time = learning_rate, (beta_1, beta_2), epsilon, 0
        self.mean, self.square, self.spare = (np.zeros_like(like) for _ in range(3))

    def __call__(self, weights: np.ndarray, gradient: Gradient) -> None:
        real, spare, (beta_1, beta_2), slope = weights.dtype.type, self.spare, self.betas, gradient(weights)
        self.time += 1
        # In place throughout: with temporaries a step takes twice as long.
        np.subtract(slope, self.mean, out=spare)
        spare *= real(1 - beta_1)
        self.mean += spare
        np.multiply(slope, slope, out=spare)
        spare -= self.square
        spare *= real(1 - beta_2)
        self.square += spare
        np.sqrt(self.square, out=spare)
        spare += real(self.epsilon)
        np.divide(self.mean, spare, out=spare)
        spare *= real(self.rate * (1 - beta_2**self.time) ** 0.5 / (1 - beta_1**self.time))
        weights -= spare


STEPS = {"sgd": SGD, "nesterov": Nesterov, "adam": Adam}
