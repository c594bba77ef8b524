"""A simulated link: what the merge between nodes sends, and how long that takes."""

from dataclasses import dataclass

from dkcore.errors import expected

__all__ = ["Link", "ratio_of"]

RATIOS = {"none": 1.0, "bf16": 0.5, "fp16": 0.5, "int8": 0.25}
INDEX = 4  # bytes that say where one of the largest elements belongs


@dataclass(frozen=True)
class Link:
    """What connects the leaders of nodes. bandwidth: bytes a second, each way. latency: seconds of one message."""

    bandwidth: float
    latency: float

    def bytes(self, nodes: int, model_bytes: float) -> float:
        """What each leader sends, and receives, in one merge: reduce-scatter and all-gather, 2 (m - 1) / m of the model.

        >>> [round(Link(1e9, 0).bytes(nodes, 19.2e6) / 19.2e6, 3) for nodes in (1, 2, 3, 4)]
        [0.0, 1.0, 1.333, 1.5]
        """
        return 2 * (nodes - 1) / nodes * model_bytes

    def seconds(self, nodes: int, model_bytes: float) -> float:
        """How long that takes: 2 (m - 1) messages one after another, and the bytes."""
        return 2 * (nodes - 1) * self.latency + self.bytes(nodes, model_bytes) / self.bandwidth


def ratio_of(compression: str, itemsize: int = 4) -> float:
    """Bytes sent over bytes of the model: none, bf16, fp16, int8, or ``topk:FRACTION`` (a value and its place). ValueError for others.

    >>> ratio_of("bf16"), ratio_of("topk:0.01")
    (0.5, 0.02)
    """
    name, _, fraction = str(compression).partition(":")
    try:
        if name == "topk" and 0 < float(fraction) <= 1:
            return float(fraction) * (itemsize + INDEX) / itemsize
        return RATIOS[name if not fraction else ""]
    except (KeyError, ValueError):
        what = f"a merge_compression of {', '.join(RATIOS)} or topk:FRACTION"
        raise ValueError(expected(what, repr(compression), "A fraction is more than 0, and 1 at most: topk:0.01.")) from None
