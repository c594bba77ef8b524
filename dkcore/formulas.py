"""The formulas that bring the centers of several nodes together, element by element: the two halves of a merge.

``c`` is the center of this node. ``s`` is what all nodes agreed on last; it is to the node what ``p`` is to the worker. ``q``
is what this node sent, ``t`` the total over all nodes. ``m`` is what workers handed in at a synchronous round, see
`dkcore.synchronous`.
"""

from dkcore.rule import Rule, formula
from dkcore.synchronous import METHODS


@formula("d")
def merge_difference(c, s, d):
    """First half: what this node has that the others have not seen."""
    return (c - s,)


@formula("c", "s")
def merge_absorb(c, s, q, t):
    """Second half: what the others have; what workers did meanwhile, and what compression held back, stays in c - s."""
    return c + (t - q), s + t


@formula("c", "s")
def merge_agree(c, s, t):
    """Second half of the last merge: nobody works any longer, so the nodes may agree to the last bit."""
    return s + t, s + t


@formula("c", "s")
def merge_rebase(c, s, r, q):
    """After a node was lost, where others have taken q already: what was not sent stays, on top of what they agree on, r."""
    return c + (r - s - q), r


@formula("c")
def merge_put_back(c, r):
    """After a node was lost: what its owner held of a sum is progress that is in no center."""
    return (c + r,)


@formula("c")
def merge_replace(c, r):
    """After a node was lost, between synchronous rounds: all nodes have the same center."""
    return (r,)


@formula("d")
def round_handed(m, d):
    """What the workers of this node handed in."""
    return (m,)


@formula("m")
def round_taken(m, q):
    """What compression held back stays for the next round; without it nothing does."""
    return (m - q,)


FORMULAS: dict[str, Rule] = {name: value for name, value in list(globals().items()) if isinstance(value, Rule)}
FORMULAS |= {part.name: part for method in METHODS.values() for part in (method.gather, method.outer)}
