"""A cut: what the leader of a node has of a checkpoint, copied between two rounds of the merge; and how a center begins from it.

Design:
(a) Between two rounds all leaders have agreed on the same ``s``, and none has a chunk under way. A notice of one leader tells all
    others the number of the checkpoint, so all copy after the same round: center, states, ``s``, and what compression holds back.
(b) In a round of a synchronous method the workers wait for the center. They are let go after the copy, so it is exact.
(c) The copy goes through memory only, stripe by stripe, under each stripe's lock for the time of that stripe. Whoever writes it to a
    disk does so in a thread.
(d) On as many nodes as before each takes its own part. On another number, what each node had not told yet is added to ``s``, or
    averaged, by the same law as in a merge (`dkcore.formula.additive.adds_up`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dkcore.arrays import Array
from dkcore.checkpoints.part import node_part
from dkcore.errors import LayoutError, expected
from dkcore.formula.additive import adds_up
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import Synchronous

if TYPE_CHECKING:
    from dkcore._engine import LeasesView
    from dkcore.checkpoints.manifest import Saved
    from dkcore.engine.center import NodeCenter
    from dkcore.merge.rounds import Rounds
    from dkcore.ranks.requests import Requests

__all__ = ["Cut", "Start", "adds_of", "copy_of", "copy_with_leases", "resume", "start_of"]


TRIES = 8  # until no exchange comes between


class Cut:
    """The copies of one node, on its leader, which the thread of the merge takes.

    taken: the number of the checkpoint of the last copy, twice, and 1 more if it was the last one. keep: called with the number, the
    number of the merge, the arrays, and what `copy_with_leases` says of leases.
    """

    def __init__(self, requests: "Requests"):
        self.requests, self.taken = requests, 0
        self.keep: Callable[[int, int, dict[str, Array], dict[str, Any] | None], None] | None = None

    @property
    def wanted(self) -> int:
        """What this node wants, see `Requests.wanted`."""
        return self.requests.wanted

    @property
    def due(self) -> bool:
        return self.wanted > self.taken

    def after(self, rounds: "Rounds", wanted: int) -> None:
        """Copy after this round, if any leader wants that; then let the workers of this node copy theirs."""
        if wanted <= self.taken or self.keep is None:
            return
        self.taken = wanted
        self.keep(wanted >> 1, rounds.round.number, *copy_with_leases(rounds.center, rounds))
        self.requests.begin(wanted >> 1, bool(wanted & 1))


def copy_with_leases(center: "NodeCenter", rounds: "Rounds | None" = None) -> tuple[dict[str, Array], dict[str, Any] | None]:
    """As `copy_of`, and what is unsettled in it, for the manifest; None where no batches are leased.

    An exchange that comes between the two would be in the one, and not in the other: then both are done again, a few times.
    """
    ranges, before = center.unsettled()
    if not before["batches"]:
        return copy_of(center, rounds), None
    for _ in range(TRIES):
        ranges, before = center.unsettled()
        arrays, after = copy_of(center, rounds), center.leases
        exact = settled(before) == settled(after) and not before["under_way"] + after["under_way"]
        if exact:
            break
    return arrays, {"batches": before["batches"], "next": before["next"], "unsettled": ranges.tolist(), "exact": exact}


def settled(leases: "LeasesView") -> int:
    return leases["next"] - leases["held"] - leases["waiting"]


def copy_of(center: "NodeCenter", rounds: "Rounds | None" = None) -> dict[str, Array]:
    """What a node has of a checkpoint, by name. Shapes: (size,), the same for all."""
    vectors = range(1 + center.states)
    arrays = {f"vector-{vector}": center.snapshot(state=vector) for vector in vectors}
    if rounds is None:
        return arrays
    arrays |= {f"agreed-{vector}": agreed.copy() for vector, agreed in enumerate(getattr(rounds.contributions, "agreed", ()))}
    reduction, first = rounds.reduction, summed_first(rounds)
    for chunk, held in reduction.held.items():
        name = f"held-{chunk.vector + first}"
        whole = arrays.setdefault(name, np.zeros(center.size, center.dtype))
        whole[chunk.begin : chunk.begin + chunk.length][reduction.bounds(chunk, reduction.peers.rank)] = held
    return arrays


def summed_first(rounds: "Rounds") -> int:
    """The first vector that a merge sums up: the center, or what workers handed in."""
    return 1 if rounds.synchronous else 0


def adds_of(rule: "Rule | Synchronous | None", states: int) -> list[bool]:
    """Of the center and of each state: whether what nodes did to it is added up when nodes are merged, or averaged."""
    if isinstance(rule, Synchronous):
        return [False, True, *[False] * (states - 1)]  # the first state is what was handed in
    return [rule is not None and vector <= len(rule.states) and adds_up(rule, vector) for vector in range(1 + states)]


@dataclass
class Start:
    """What the center of a node begins with.

    vectors: the center, and its states if the rule is the one that they are of. agreed: likewise, what all nodes agreed on; None where
    that is the center itself. held: what compression held back, by vector.
    """

    vectors: list[Array]
    agreed: list[Array] | None = None
    held: dict[int, Array] = field(default_factory=dict)


def start_of(saved: "Saved", node: int, nodes: int, rule: "Rule | Synchronous | None", digest: int) -> Start:
    """Of a checkpoint, for one of so many nodes. LayoutError when it is of another model."""
    manifest = saved.manifest
    if digest != manifest.digest:
        advice = "Its weights are in another order, or another model's: train the model that it is of."
        raise LayoutError(expected("a checkpoint of this model", f"{saved.location}, which is of another", advice))
    known = 1 + (len(rule.states) if rule is not None and rule.name == manifest.rule else 0)
    vectors = range(min(known, len(manifest.adds)))
    if manifest.nodes == nodes and len(set(manifest.merges)) == 1:
        part = saved.part(node_part(node))
        agreed = [part[f"agreed-{vector}"] for vector in vectors] if "agreed-0" in part and known == len(manifest.adds) else None
        held = {vector: part[name] for vector in vectors if (name := f"held-{vector}") in part}
        return Start([part[f"vector-{vector}"] for vector in vectors], agreed, held)
    total = combine([], saved.part(node_part(0)), saved, len(vectors))
    for other in range(1, manifest.nodes):
        total = combine(total, saved.part(node_part(other)), saved, len(vectors))
    return Start(total)


def combine(total: list[Array], part: dict[str, Array], saved: "Saved", vectors: int) -> list[Array]:
    """One more node's part, added to those before: a share of where it is, or all that it had not told the others."""
    nodes, statistics = saved.manifest.nodes, saved.manifest.statistics
    out = []
    for vector, adds in enumerate(saved.manifest.adds[:vectors]):
        own = part[f"vector-{vector}"]
        agreed = part.get(f"agreed-{vector}")
        sum_of_all = own / nodes
        if adds and agreed is not None:
            sum_of_all = agreed / nodes + (own - agreed)
        elif adds and vector:  # of a synchronous method: what its workers handed in
            sum_of_all = own.copy()
        if statistics and vector == 0:
            sum_of_all[-statistics:] = own[-statistics:] / nodes
        if (held := part.get(f"held-{vector}")) is not None:
            sum_of_all += held
        out.append(sum_of_all.astype(own.dtype) if not total else total[vector] + sum_of_all)
    return out


def resume(rounds: "Rounds", start: Start) -> None:
    """Have a merge that has not begun go on from there."""
    agreed = getattr(rounds.contributions, "agreed", None)
    if start.agreed is not None and agreed is not None:
        for mine, saved in zip(agreed, start.agreed, strict=True):
            mine[:] = saved
    reduction = rounds.reduction
    for vector, held in start.held.items():
        for chunk in rounds.contributions.chunks:
            if chunk.vector + summed_first(rounds) != vector or chunk.statistics:
                continue
            mine = held[chunk.begin : chunk.begin + chunk.length][reduction.bounds(chunk, reduction.peers.rank)]
            if reduction.codec is not None:
                reduction.held[chunk] = mine.copy()
            elif mine.any():  # nothing is held back any longer: it goes to where it is not lost
                values = np.zeros(chunk.length, rounds.center.dtype)
                values[reduction.bounds(chunk, reduction.peers.rank)] = mine
                rounds.contributions.put_back(chunk, values)
