"""A Keras callback: at the pace of exchanges, the rule's kernel over vectors that belong to nobody else.

No center, no lock, no other worker, no framework's buffers: what moving as many bytes costs this machine between two steps of a
training, whose own data have filled the caches meanwhile. No exchange can take less.
"""

import ctypes
import time

import keras
import numpy as np

from bench.subjects.flat import KERNEL, vectors_at
from dkcore.engine.compile import compile_kernel
from dkcore.formula.rule import Rule

__all__ = ["Private"]


class Private(keras.callbacks.Callback):
    """Every ``window`` steps. durations: seconds of each pass."""

    def __init__(self, rule: Rule, size: int, window: int) -> None:
        super().__init__()
        self.window, self.size, self.steps = window, size, 0
        self.arrays = [np.full(size, 1 + window * (name == "w"), np.float32) for name in rule.vectors]
        self.vectors = vectors_at([array.ctypes.data for array in self.arrays], 0)
        values = rule.fill({"window": window}, ("staleness", "workers"))
        self.scalars = (ctypes.c_double * max(len(values), 1))(*values.values())
        self.kernel = KERNEL(compile_kernel(rule, np.float32).address)
        self.durations: list[float] = []
        self.kernel(size, self.vectors, self.scalars)
        assert rule.name != "adag" or all(np.all(array == 2) for array in self.arrays), "the kernel differs from its formula"

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.steps += self._model.steps_per_execution
        if self.steps < self.window:
            return
        self.steps = 0
        if logs:
            float(logs["loss"])  # waits for the step, as an exchange must
        start = time.perf_counter()
        self.kernel(self.size, self.vectors, self.scalars)
        self.durations.append(time.perf_counter() - start)
