"""Time against size, of ours and of every peer, out of the flat keys of a report: what a plot on two logarithmic axes needs."""

import re
from collections.abc import Mapping

__all__ = ["OURS", "peer_times"]

OURS = "dkcore"
KEY = re.compile(r"peer_us/(?P<name>[^/]+)/(?P<size>\d+)/(?P<workers>\d+)workers(?P<kind>|/mean|/delta)")


def peer_times(flat: Mapping[str, float | int | str], workers: int = 2, kind: str = "") -> dict[str, dict[int, float]]:
    """Microseconds of an exchange by size, ascending, of each name; ours is named `OURS` and comes first, then the fastest.

    kind: "" the median; "mean", of the slowest worker; "delta", the median of exchanges that are handed their delta.

    >>> peer_times({"peer_us/ray/1000/2workers": 900.0, "peer_us/dkcore/1000/2workers": 1.0, "peer_us/ray/1000/2workers/mean": 950.0})
    {'dkcore': {1000: 1.0}, 'ray': {1000: 900.0}}
    """
    found: dict[str, dict[int, float]] = {}
    for key, value in flat.items():
        match = KEY.fullmatch(key)
        if match and int(match["workers"]) == workers and match["kind"].removeprefix("/") == kind:
            found.setdefault(match["name"], {})[int(match["size"])] = float(value)
    sizes = {name: dict(sorted(times.items())) for name, times in found.items()}
    return dict(sorted(sizes.items(), key=lambda item: (item[0] != OURS, list(item[1].values())[-1])))  # by time at the largest size
