"""How much faster is an exchange than by what a user would pick instead?

Each peer's own code from its own package against ours, in turn, from a worker's weights to the center and back: ADAG with window 12.
A second line (``/delta``) hands both the ready delta. ``vs_PEER`` is the ratio of the median exchanges, ``vs_PEER_mean`` that of the
mean exchanges of the slowest worker, since an unfair lock hides in a median. All are in processes of their own, on no core of their
own. Vectors are used in rotation where the peer's center can be several; if not, both sides have one set.
"""

import numpy as np
import pytest

from bench.harness.case import Case
from bench.harness.kept import Kept
from bench.peers.contest import Contest, side_of
from bench.peers.table import OURS, PEERS, version

SIZES = (1_000, 100_000, 1_000_000, 4_798_010, 67_108_864)
MIDDLE = 1_000_000
TIMES = {"": (False, "median"), "/mean": (False, "mean"), "/delta": (True, "median")}  # of keys: whether the delta is given; what of them


def cases(quick: bool) -> list[Case]:
    """Every peer at every size, so that its processes are started once; then what they say together about ours."""
    points = [(MIDDLE, 2)] if quick else [(size, workers) for size in SIZES for workers in (1, 2)]
    return [make(name, *point) for name in PEERS for point in points] + [summary(*point) for point in points]


def make(name: str, size: int, workers: int) -> Case:
    """vs_PEER/SIZE/WORKERSworkers first, then its means, and the microseconds of the peer."""
    point = f"{size}/{workers}workers"
    keys = [f"vs_{name}/{point}", f"vs_{name}_mean/{point}", f"vs_{name}/{point}/delta"]
    keys += [f"peer_us/{name}/{point}{kind}" for kind in TIMES]
    return Case(*keys, name=name, size=size, workers=workers, serves=summary(size, workers).keys)


def summary(size: int, workers: int) -> Case:
    """Of all peers: how ours compares with the best of them, and its microseconds."""
    point = f"{size}/{workers}workers"
    keys = [f"vs_best_peer/{point}", f"vs_best_peer_mean/{point}", *(f"peer_us/dkcore/{point}{kind}" for kind in TIMES)]
    return Case(*keys, name=None, size=size, workers=workers)


@pytest.fixture(scope="module")
def found():
    """What was measured, by size and workers: the `Contest` of each peer; and in which case a peer failed."""
    return {"contests": {}, "failed": {}}


@pytest.fixture(scope="module")
def ours():
    """Our processes, which all peers meet."""
    with Kept() as made:
        yield made


def bench_peers(case, turns, kept, ours, found):
    contests = found["contests"].setdefault((case.size, case.workers), {})
    if case.name is None:
        # An all-reduce of a single worker has nothing to do, and is no exchange with a center.
        rivals = {name: contest for name, contest in contests.items() if case.workers > 1 or not name.endswith("allreduce")}
        if not rivals:
            pytest.skip("no peer was measured at this size")
        conclude(case, rivals, turns)
        return
    entry = PEERS[case.name]
    if reason := entry.absent():
        pytest.skip(reason)
    if entry.name in found["failed"]:
        pytest.skip(f"{entry.name} failed at {found['failed'][entry.name]}")
    try:
        contest = Contest(case, kept.get((entry.module, *entry.environment.items()), lambda stack: side_of(entry, stack)),
                          ours.get(OURS.name, lambda stack: side_of(OURS, stack)), entry)  # fmt: skip
        contest.hold(turns)
    except BaseException:
        found["failed"][entry.name] = case.keys[0]
        kept.close()  # what is left of it
        ours.close()
        raise
    contests[entry.name] = contest
    tell(case, contest, f"{entry.package} {version(entry.package)}", turns)


def tell(case: Case, contest: Contest, who: str, turns) -> None:
    """The figures of one peer."""
    keys = iter(case.keys)
    for given, kind in TIMES.values():
        theirs, ours = contest.of("theirs", given, kind), contest.of("ours", given, kind)
        note = f"{who}: {np.median(theirs) * 1e6:,.1f} us, ours {np.median(ours) * 1e6:,.1f} us ({kind})"
        turns.figure(next(keys), theirs / ours, note=note)
    for given, kind in TIMES.values():
        turns.figure(next(keys), contest.of("theirs", given, kind) * 1e6, "us")


def conclude(case: Case, contests: dict[str, Contest], turns) -> None:
    """The best peer is the one that ours is the least ahead of."""
    keys = iter(case.keys)
    for kind in ("median", "mean"):
        ratios = {name: contest.of("theirs", False, kind) / contest.of("ours", False, kind) for name, contest in contests.items()}
        best = min(ratios, key=lambda name: np.median(ratios[name]))
        turns.figure(next(keys), ratios[best], note=f"{best}, of {len(ratios)} peers")
    for given, kind in TIMES.values():
        ours = np.concatenate([contest.of("ours", given, kind) for contest in contests.values()])
        turns.figure(next(keys), ours * 1e6, "us", note=f"beside {len(contests)} peers")
