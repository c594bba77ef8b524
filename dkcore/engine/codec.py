"""A codec: how a part of the center crosses the wire between nodes, in fewer bytes than it has."""

import itertools
import re
from dataclasses import dataclass

import numpy as np

from dkcore.engine.load import engine
from dkcore.errors import LayoutError, expected

__all__ = ["CODECS", "Codec"]

CODECS = ("none", "bf16", "fp16", "int8", "topk")  # in the order of dk_codec in src_ext/dkcore.h
SPELLED = re.compile(r"(none|bf16|fp16|int8)|topk:([0-9.eE+-]+)")


@dataclass(frozen=True)
class Codec:
    """One of ``none``, ``bf16``, ``fp16``, ``int8`` and ``topk:FRACTION``; two of the same name encode alike on any machine.

    What an encoding loses goes into the residual, and with it into the next encoding: error feedback, Seide et al. 2014
    (Interspeech), Karimireddy et al. 2019 (arXiv 1901.09847). So the sum of all that was sent and of what is held back is the
    sum of all that was to be sent. All methods work without the GIL.

    >>> codec = Codec.of("int8")
    >>> values, residual = np.float32([0.25, -50, 127]), np.zeros(3, np.float32)
    >>> message = np.empty(codec.bytes(3, values.dtype), np.uint8)
    >>> codec.encode(values, message, residual)
    >>> values, residual, message.size  # a scale of 4 bytes, and a byte for each
    (array([  0., -50., 127.], dtype=float32), array([0.25, 0.  , 0.  ], dtype=float32), 7)
    """

    kind: int
    fraction: float = 1.0  # of the elements that topk keeps

    @classmethod
    def of(cls, name: str | None) -> "Codec":
        """The codec of that name (None: ``none``); ValueError when there is none."""
        found = SPELLED.fullmatch("none" if name is None else str(name))
        try:
            if found:
                fraction = float(found[2] or 1)
                if 0 < fraction <= 1:
                    return cls(CODECS.index(found[1] or "topk"), fraction)
        except ValueError:  # a fraction like 1e or 0.0.1
            pass
        what = f"a codec: {', '.join(CODECS[:-1])}, or topk:FRACTION with a fraction above 0, and 1 at most"
        raise ValueError(expected(what, repr(name), "For instance topk:0.01 sends the largest hundredth."))

    @property
    def name(self) -> str:
        """As `of` takes it."""
        return f"topk:{self.fraction:.12g}" if CODECS[self.kind] == "topk" else CODECS[self.kind]

    def bytes(self, n: int, dtype: np.dtype | type | str) -> int:
        """What n encoded elements take, whatever their values. dtype: float32 or float64."""
        return engine().codec_bytes(self.kind, itemsize_of(np.dtype(dtype)), self.fraction, n)

    def encode(self, values: np.ndarray, out: np.ndarray, residual: np.ndarray | None = None) -> None:
        """Encode ``values + residual`` into ``out``; afterwards ``values`` are what `decode` gives, and ``residual`` is the rest.

        values, residual: flat, contiguous, of one size and dtype (float32 or float64), both changed. out: flat, uint8, at
        least ``bytes(n)`` long. NotFiniteError names an element that is NaN or infinite; what the blocks of 1024 elements
        before it hold may be encoded by then.
        """
        check(values, "values", changed=True)
        self.check_message(out, values, changed=True)
        if residual is not None:
            check(residual, "residual", changed=True)
            if (residual.dtype, residual.size) != (values.dtype, values.size):
                what = f"a residual of {values.size} {values.dtype}"
                raise LayoutError(expected(what, f"{residual.size} {residual.dtype}", "It holds back a part of each value."))
            apart(values, residual, out)
        engine().encode(self.kind, self.fraction, values, residual, out)

    def decode(self, data: np.ndarray, values: np.ndarray) -> None:
        """Overwrite ``values`` by what ``data``, as `encode` wrote it, says. ValueError when it was made of other sizes."""
        check(values, "values", changed=True)
        self.check_message(data, values, changed=False)
        engine().decode(self.kind, self.fraction, data, values, False)

    def decode_add(self, data: np.ndarray, values: np.ndarray) -> None:
        """Add what `decode` would give to ``values``, in the order of their elements; of topk only what was sent is touched."""
        check(values, "values", changed=True)
        self.check_message(data, values, changed=False)
        engine().decode(self.kind, self.fraction, data, values, True)

    def check_message(self, data: np.ndarray, values: np.ndarray, changed: bool) -> None:
        """Refuse an array that is not uint8, too short for these values, or where they are."""
        check(data, "the message", changed, dtypes=(np.uint8,))
        apart(values, data)
        if data.size < self.bytes(values.size, values.dtype):
            what = f"a message of {self.bytes(values.size, values.dtype)} bytes for {values.size} {values.dtype}"
            raise LayoutError(expected(what, f"{data.size} bytes", "codec.bytes(n, dtype) says how many it takes."))


def apart(*arrays: np.ndarray) -> None:
    """Refuse arrays that overlap."""
    for one, other in itertools.combinations(arrays, 2):
        if np.may_share_memory(one, other):
            what = "values, residual and message in memory of their own"
            raise ValueError(expected(what, "arrays that overlap", "Pass a copy of one of them."))


def itemsize_of(dtype: np.dtype) -> int:
    """4 or 8; LayoutError for all but float32 and float64."""
    if dtype not in (np.float32, np.float64):
        raise LayoutError(expected("float32 or float64", dtype, "No codec knows other numbers."))
    return dtype.itemsize


def check(array: np.ndarray, what: str, changed: bool, dtypes: tuple[type[np.generic], ...] = (np.float32, np.float64)) -> None:
    """Refuse what native code cannot take as it is."""
    names = " or ".join(np.dtype(dtype).name for dtype in dtypes)
    if not isinstance(array, np.ndarray):
        raise TypeError(expected(f"{what} as a numpy array of {names}", type(array).__name__, "It is used in place."))
    if array.dtype not in dtypes:
        raise LayoutError(expected(f"{what} of {names}", array.dtype, "Nothing is converted: it is used in place."))
    flags = array.flags
    if array.ndim != 1 or not flags.c_contiguous or not flags.aligned or (changed and not flags.writeable):
        wanted = f"{what} flat, contiguous and aligned{', and writeable' if changed else ''}"
        raise ValueError(expected(wanted, f"shape {array.shape}, strides {array.strides}, writeable {flags.writeable}", "Pass a view."))
