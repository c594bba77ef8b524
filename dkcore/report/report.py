"""The report of a training: ``report.json`` for programs, ``report.png`` for people."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow

__all__ = ["KEYS", "write"]

KEYS = (
    "trainer",
    "workers",
    "window",
    "epochs",
    "samples",
    "exchanges",
    "training_time_s",
    "samples_per_s",
    "exchange_share",
    "mean_staleness",
    "test_loss",
    "test_accuracy",
)


def write(
    out: Path | str,
    summary: Mapping[str, Any],
    history: "pyarrow.Table | None" = None,
    histogram: Mapping[int, Sequence[int]] | None = None,
) -> None:
    """Write ``report.json`` and ``report.png`` into the directory ``out``.

    summary: the figures, at least those of `KEYS` that are known; the others become null, as NaN and infinities do.
    ``exchange_share`` and ``test_accuracy`` are fractions of one. history: the merged history; rows of the center have its
    test results under the metrics' own names. histogram: for each worker, how many stripes it exchanged at staleness 0, 1,
    ...; the last count is of all beyond.
    """
    from dkcore.report.plot import draw

    out = Path(out)
    figures = {key: plain(summary.get(key)) for key in (*KEYS, *(key for key in summary if key not in KEYS))}
    (out / "report.json").write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
    draw(out / "report.png", figures, history, histogram)


def plain(value: Any) -> Any:
    """The value as JSON has it: no numpy, no NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
