"""A simulated link: what the merge between nodes sends, and how long that takes."""

from dataclasses import dataclass

__all__ = ["Link"]


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
