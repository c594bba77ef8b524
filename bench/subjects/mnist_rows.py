"""MNIST as the comparisons on Spark train on it: flat rows of floats."""

from functools import cache

import numpy as np

__all__ = ["ROWS", "mnist"]

ROWS = 50_000  # to train on


@cache
def mnist() -> tuple[np.ndarray, ...]:
    """Rows to train on, their labels, rows to test on, and theirs: float32 (rows, 784) from 0 to 1, int64 (rows,)."""
    from dkcore import mnist as source

    with np.load(source.load()) as file:
        x, y, x_test, y_test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    flat = [images.reshape(len(images), -1).astype(np.float32) / 255 for images in (x[:ROWS], x_test)]
    return flat[0], y[:ROWS].astype(np.int64), flat[1], y_test.astype(np.int64)
