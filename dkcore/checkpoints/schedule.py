"""How often a checkpoint is written: a time, a number of epochs, or a number of exchanges."""

import math
import re
from dataclasses import dataclass
from typing import Any

from dkcore.errors import expected

__all__ = ["Every", "every_of"]

FORM = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)\s*")
SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
COUNTS = {"": "epochs", "epoch": "epochs", "epochs": "epochs", "exchange": "exchanges", "exchanges": "exchanges"}


@dataclass(frozen=True)
class Every:
    """An interval between checkpoints. unit: ``seconds``, ``epochs`` or ``exchanges``, the last two as rank 0 counts them."""

    number: float
    unit: str


def every_of(value: Any) -> Every:
    """The interval that a text means; a plain number is epochs. ValueError for what is none.

    >>> every_of("5min"), every_of("2 epochs"), every_of(100)
    (Every(number=300.0, unit='seconds'), Every(number=2, unit='epochs'), Every(number=100, unit='epochs'))
    """
    found = None if isinstance(value, bool) else FORM.fullmatch(str(value))
    number, unit = (float(found[1]), found[2]) if found else (math.nan, "")
    if found and unit in SECONDS and number > 0:
        return Every(number * SECONDS[unit], "seconds")
    if found and unit in COUNTS and number >= 1 and number == int(number):
        return Every(int(number), COUNTS[unit])
    what = "checkpoint_every as a time, a number of epochs or of exchanges"
    raise ValueError(expected(what, repr(value), 'Such as "5min", "30s", "2 epochs" or "100 exchanges".'))
