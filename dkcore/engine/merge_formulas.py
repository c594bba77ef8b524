"""The formulas that bring the centers of several nodes together, element by element: the two halves of a merge.

``c`` is the center of this node. ``s`` is what all nodes agreed on last; it is to the node what ``p`` is to the worker. ``q``
is what this node sent, ``t`` the total over all nodes. ``m`` is what workers handed in at a synchronous round, see
`dkcore.synchronous`.

The formulas of statistics are at the end: what is no progress, but a position, such as the moving mean and variance of batch
normalization. Each leaves a value between two that it is given, whatever rounding does.
"""

import numpy as np

from dkcore.arrays import Array
from dkcore.formula.rule import Rule, formula, rule
from dkcore.rules import METHODS


@formula("d")
def merge_difference(c: Array, s: Array, d: Array) -> tuple[Array]:
    """First half: what this node has that the others have not seen."""
    return (c - s,)


@formula("c", "s")
def merge_absorb(c: Array, s: Array, q: Array, t: Array) -> tuple[Array, Array]:
    """Second half: what the others have; what workers did meanwhile, and what compression held back, stays in c - s."""
    return c + (t - q), s + t


@formula("c", "s")
def merge_agree(c: Array, s: Array, t: Array) -> tuple[Array, Array]:
    """Second half of the last merge: nobody works any longer, so the nodes may agree to the last bit."""
    return s + t, s + t


@formula("c", "s")
def merge_rebase(c: Array, s: Array, r: Array, q: Array) -> tuple[Array, Array]:
    """After a node was lost, where others have taken q already: what was not sent stays, on top of what they agree on, r."""
    return c + (r - s - q), r


@formula("c")
def merge_put_back(c: Array, r: Array) -> tuple[Array]:
    """After a node was lost: what its owner held of a sum is progress that is in no center."""
    return (c + r,)


@formula("c")
def merge_replace(c: Array, r: Array) -> tuple[Array]:
    """All nodes have the same: statistics that they agree on, and, after a node was lost between rounds, the center."""
    return (r,)


@formula("d")
def round_handed(m: Array, d: Array) -> tuple[Array]:
    """What the workers of this node handed in."""
    return (m,)


@formula("m")
def round_taken(m: Array, q: Array) -> tuple[Array]:
    """What compression held back stays for the next round; without it nothing does."""
    return (m - q,)


def between(x: Array, a: Array, b: Array) -> Array:
    """x, or that of a and b which it is beyond. Where a and b are equal the very bits of one of them."""
    low, high = np.where(a < b, a, b), np.where(a < b, b, a)
    x = np.where(x > low, x, low)
    return np.where(x < high, x, high)


@rule
def settle(c: Array, w: Array, *, share: float) -> tuple[Array, Array]:
    """The weights with which a worker's training ended have their share in the center's: the whole, of the only worker."""
    return between(np.where(share < 1, c + (w - c) * share, w), c, w), w


@formula("c", "w")
def statistic(c: Array, w: Array, p: Array, *, workers: float) -> tuple[Array, Array]:
    """An exchange: the center goes a worker's share of the way that this one went since its last, but never beyond it."""
    c = between(np.where(workers > 1, c + (w - p) / workers, w + (c - p)), c, w)  # of one worker that is alone just w
    return c, c


@formula("m")
def statistic_handed(m: Array, w: Array, *, arrivals: float) -> tuple[Array]:
    """A synchronous round: the mean of those that have handed in so far."""
    return (between(np.where(arrivals > 1, m + (w - m) / arrivals, w), m, w),)


@formula("t")
def statistic_mean(t: Array, q: Array, *, share: float) -> tuple[Array]:
    """The mean over nodes, one node after another: the share of this one is of those that were before."""
    return (between(np.where(share < 1, t + (q - t) * share, q), t, q),)


@formula("c")
def statistic_absorb(c: Array, q: Array, t: Array) -> tuple[Array]:
    """Second half of a merge: what all nodes agreed on, t, and on top of it what workers here did since q was sent."""
    return (between(t + (c - q), t, c),)


FORMULAS: dict[str, Rule] = {name: value for name, value in list(globals().items()) if isinstance(value, Rule)}
FORMULAS |= {part.name: part for method in METHODS.values() for part in (method.gather, method.outer)}
