"""The codecs that work element by element: what is stored of a number, and which number comes back.

``x`` is a number, ``q`` what is stored of it. As with the rules, the formula is the reference: called on arrays it is
numpy, and its trace is printed as C. Each codec makes three passes (`PASSES`): ``encode``, ``decode`` and ``add``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from dkcore.arrays import Array, Floats
from dkcore.formula.trace import Node, Symbol, Trace

__all__ = ["BLOCK", "CODINGS", "PASSES", "Coding", "Pass"]

BLOCK = 1024  # elements that share one scale; DK_CODEC_BLOCK in src_ext/dkcore.h
BF16_LARGEST = float.fromhex("0x1.fep127")
FP16_LARGEST = 65504.0
INT8_LARGEST = 127.0
Passing: TypeAlias = Callable[..., dict[str, Array]]  # the formula of a pass: of vectors and scalars, the new ones by name


def saturate(x: Array, largest: float) -> Array:
    """No number beyond ``largest``: error feedback sends the rest later, but never takes an infinity back."""
    return np.where(x > largest, largest, np.where(x < -largest, -largest, x))


def as_it_is(x: Array) -> Array:
    """The number itself."""
    return x


def saturate_bf16(x: Array) -> Array:
    """The upper half of a float32: its range, and 8 bits of precision."""
    return saturate(x, BF16_LARGEST)


def saturate_fp16(x: Array) -> Array:
    """IEEE 754 half precision: 11 bits of precision, from 6e-8 to 65504."""
    return saturate(x, FP16_LARGEST)


def quantize(x: Array, *, scale: float) -> Array:
    """A whole number of scales."""
    return np.where(scale > 0, saturate(np.rint(x / scale), INT8_LARGEST), 0.0)


def dequantize(q: Array, *, scale: float) -> Array:
    """So many scales."""
    return q * scale


def bf16_bits(x: Array) -> Array:
    """The upper half of the bits, rounded to nearest even. A float64 keeps a bit for all that float32 has no room for."""
    near = x.astype(np.float32)
    bits = near.view(np.uint32) - (np.abs(near.astype(np.float64)) > np.abs(x)).astype(np.uint32)
    bits |= near != x
    rounded: Array = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return rounded.astype(np.uint16)


def bf16_numbers(bits: Array) -> Floats:
    """The float32 of an upper half."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


# How a number lies in the bytes, in numpy; for C the same is in src_ext/storage.h. "same" is the center's own dtype.
Converting: TypeAlias = Callable[[Array], Array]
STORE: dict[str, Converting] = {"same": np.array, "bf16": bf16_bits, "fp16": lambda x: x.astype(np.float16)}
STORE["int8"] = lambda x: x.astype(np.int8)
LOAD: dict[str, Converting] = {"same": np.array, "bf16": bf16_numbers, "fp16": np.array, "int8": np.array}


@dataclass(frozen=True)
class Coding:
    """A codec: what is stored of a number (encode), in which storage, and what comes back of it (decode)."""

    name: str
    storage: str
    encode: Callable[..., Array]
    decode: Callable[..., Array]
    scalars: tuple[str, ...] = ()

    def store(self, x: Any) -> Any:
        """A number, as it is stored."""
        return x.trace.add("store", (x.index,), self.storage) if isinstance(x, Symbol) else STORE[self.storage](x)

    def load(self, q: Any, dtype: Any) -> Any:
        """A number again, of that dtype."""
        return q.trace.add("load", (q.index,), "vector") if isinstance(q, Symbol) else LOAD[self.storage](q).astype(dtype)


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass of a codec over memory, traced like a `dkcore.formula.rule.Rule`. Called on arrays it is the reference.

    vectors: in the order of the kernel's arguments. outputs: which of them the pass changes.
    """

    name: str
    vectors: tuple[str, ...]
    scalars: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: dict[str, int]
    formula: Passing

    def __call__(self, *vectors: Array, **scalars: float) -> dict[str, Array]:
        return self.formula(*vectors, **scalars)


def traced(coding: Coding, formula: Passing, vectors: tuple[str, ...]) -> Pass:
    """The pass of a formula."""
    trace = Trace(f"{coding.name}_{formula.__name__}")
    symbols = [trace.add("vector", (vector,), coding.storage if vector == "stored" else "vector") for vector in vectors]
    results = formula(*symbols, **{scalar: trace.add("scalar", (scalar,), "scalar") for scalar in coding.scalars})
    outputs = {vector: trace.lift(result).index for vector, result in results.items()}
    return Pass(trace.rule, vectors, coding.scalars, tuple(trace.nodes), outputs, formula)


def passes_of(coding: Coding) -> list[Pass]:
    """encode: stored, the values that will come back, and the residual that they leave; decode; add: values += what comes back."""

    def decode(stored: Array, values: Array, **scalars: float) -> dict[str, Array]:
        dtype = None if isinstance(stored, Symbol) else values.dtype
        return {"values": coding.decode(coding.load(stored, dtype), **scalars)}

    def encode(numbers: Array, stored: Array, values: Array, residual: Array, **scalars: float) -> dict[str, Array]:
        stored = coding.store(coding.encode(numbers, **scalars))
        values = decode(stored, values, **scalars)["values"]
        return {"stored": stored, "values": values, "residual": numbers - values}

    def add(stored: Array, values: Array, **scalars: float) -> dict[str, Array]:
        return {"values": values + decode(stored, values, **scalars)["values"]}

    back = ("stored", "values")
    vectors: dict[Passing, tuple[str, ...]] = {encode: ("numbers", *back, "residual"), decode: back, add: back}
    return [traced(coding, formula, names) for formula, names in vectors.items()]


CODINGS = (
    Coding("none", "same", as_it_is, as_it_is),
    Coding("bf16", "bf16", saturate_bf16, as_it_is),
    Coding("fp16", "fp16", saturate_fp16, as_it_is),
    Coding("int8", "int8", quantize, dequantize, ("scale",)),
)
PASSES: dict[str, Pass] = {made.name: made for coding in CODINGS for made in passes_of(coding)}
