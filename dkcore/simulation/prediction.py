"""What a simulation predicts: staleness, exchanges and samples a second, bytes, and how well all that scales."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

__all__ = ["Prediction"]


@dataclass(frozen=True)
class Prediction:
    """The result of a simulation.

    elapsed: simulated seconds. histogram: how many exchanges found how many commits by others. stale: mean staleness of each worker's
    exchanges, NaN for one that made none. bytes_per_leader: sent, and as many received, in all merges. utilisation: share of the
    workers' time in steps; of the rest they wait. link_share: share of the time in which a merge is under way. efficiency: samples a
    second over those of as many workers, of the plain step time, that never wait for each other. loss, accuracy: of the first
    node's center, and ``curve`` over time; None without a problem.
    """

    workers: int
    nodes: int
    elapsed: float
    exchanges: int
    samples: int
    merges: int
    bytes_per_leader: float
    bytes_per_merge: float
    utilisation: float
    link_share: float
    efficiency: float
    histogram: Mapping[int, int]
    stale: Sequence[float]
    loss: float | None = None
    accuracy: float | None = None
    curve: Sequence[Mapping[str, float]] = field(default_factory=list)

    @property
    def exchanges_per_s(self) -> float:
        return self.exchanges / self.elapsed if self.elapsed else 0.0

    @property
    def samples_per_s(self) -> float:
        return self.samples / self.elapsed if self.elapsed else 0.0

    @property
    def mean_staleness(self) -> float:
        """Over all exchanges; NaN when there were none."""
        total = sum(self.histogram.values())
        return sum(value * count for value, count in self.histogram.items()) / total if total else float("nan")

    def percentile(self, percent: float) -> int:
        """The staleness that so many percent of the exchanges do not exceed."""
        values = sorted(self.histogram)
        counts = np.cumsum([self.histogram[value] for value in values])
        return values[int(np.searchsorted(counts, percent / 100 * counts[-1]))] if values else 0

    @property
    def settled_accuracy(self) -> float:
        """Mean over the last quarter of the curve: the center's accuracy jumps from one exchange to the next."""
        last = [point["accuracy"] for point in self.curve[-max(len(self.curve) // 4, 1) :]]
        return float(np.mean(last)) if last else float("nan")

    def to_dict(self) -> dict[str, object]:
        """Plain data, for JSON."""
        derived = {name: getattr(self, name) for name in ("exchanges_per_s", "samples_per_s", "mean_staleness")}
        derived |= {f"staleness_p{percent}": self.percentile(percent) for percent in (5, 50, 95, 99)}
        histogram = {str(value): self.histogram[value] for value in sorted(self.histogram)}
        return {name: plain(value) for name, value in (asdict(self) | derived | {"histogram": histogram}).items()}


def plain(value: object) -> object:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
