"""A subject of a crew: one leader that encodes and decodes, and the machine's own memcpy on the same memory.

An encoding leaves in values and residual what adds up to the same numbers again, so each one has the same work to do.
There are several sets of arrays where one would fit into a cache; they are used in rotation.
"""

from itertools import cycle

import numpy as np

from bench.machine.caches import sets_beyond
from dkcore.engine.codec import Codec

__all__ = ["Coded"]


class Coded:
    """A part of ``size`` float32 and a codec, in one process."""

    def __init__(self, index: int, workers: int, size: int) -> None:
        self.numbers = np.random.default_rng(index).standard_normal(size, np.float32)
        self.sets = range(sets_beyond(self.numbers.nbytes))
        self.values = [self.numbers.copy() for _ in self.sets]
        self.residuals = [np.zeros_like(self.numbers) for _ in self.sets]

    def choose(self, name: str) -> float:
        """Take a codec; bytes that it sends, for one of the numbers."""
        self.codec = Codec.of(name)
        size = self.codec.bytes(self.numbers.size, self.numbers.dtype)
        self.messages = [np.ones(size, np.uint8) for _ in self.sets]
        for values, residual in zip(self.values, self.residuals, strict=True):
            values[:], residual[:] = self.numbers, 0
        self.turn = cycle(self.sets)
        return size / self.numbers.nbytes

    def encode(self) -> None:
        """As the owner of a part, who keeps a residual."""
        place = next(self.turn)
        self.codec.encode(self.values[place], self.messages[place], self.residuals[place])

    def encode_only(self) -> None:
        """Without a residual."""
        place = next(self.turn)
        self.codec.encode(self.values[place], self.messages[place])

    def decode_add(self) -> None:
        """One part of a sum."""
        place = next(self.turn)
        self.codec.decode_add(self.messages[place], self.residuals[place])

    def memcpy(self) -> None:
        """As many bytes as the numbers have."""
        place = next(self.turn)
        np.copyto(self.values[place], self.residuals[place])

    def verify(self) -> None:
        """What is sent and what is held back are the numbers, on every set."""
        for values, residual, message in zip(self.values, self.residuals, self.messages, strict=True):
            self.codec.encode(values, message, residual)
            sent = np.zeros_like(values)
            self.codec.decode_add(message, sent)
            assert np.array_equal(sent, values), "what is sent is not what the encoding left in values"
            np.testing.assert_allclose(sent + residual, self.numbers, rtol=0, atol=1e-6)
