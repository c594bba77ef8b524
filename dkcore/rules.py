"""The built-in rules: every asynchronous optimizer is one exchange between three vectors, element by element.

``c`` is the center variable, shared by all workers of a node. ``w`` is the worker: the weights of its own replica.
``p`` is the previous: what the worker held just after its last exchange, so that ``w - p`` is its progress.
"""

import numpy as np

from dkcore.rule import Rule, rule
from dkcore.synchronous import averaging, diloco, easgd, slowmo  # noqa: F401


@rule
def downpour(c, w, p):
    """Every worker's progress is added to the center. Dean et al. 2012, Large scale distributed deep networks."""
    c = c + (w - p)
    return c, c


@rule
def adag(c, w, p, *, window):
    """Accumulated gradient normalization. Hermans, Spanakis, Moeckel 2017, arXiv 1710.02368."""
    c = c + (w - p) / window
    return c, c


@rule
def dynsgd(c, w, p, *, staleness):
    """Progress is damped by the commits that others made meanwhile. Hermans 2017, after Jiang et al. 2017 (SIGMOD)."""
    c = c + (w - p) / (staleness + 1)
    return c, c


@rule
def consgd(c, w, p, *, workers):
    """Progress is divided by the number of workers. Jiang et al. 2017 (SIGMOD), Heterogeneity-aware parameter servers."""
    c = c + (w - p) / workers
    return c, c


@rule
def aeasgd(c, w, *, alpha=0.5):
    """Center and worker pull each other elastically; c + w is kept. Zhang, Choromanska, LeCun 2015, arXiv 1412.6651."""
    e = alpha * (w - c)
    return c + e, w - e


@rule
def adag_distance(c, w, p, *, window, lr=1e-4):
    """ADAG damped by how far the center has moved, per parameter: dist-keras' Experimental. Hermans 2017, thesis."""
    c = c + (w - p) / window / ((c - p) ** 2 / lr + 1)
    return c, c


@rule
def dc_asgd(c, w, p, *, lam=0.04, lr=0.01):
    """Delay compensation by a diagonal of the Hessian. Zheng et al. 2017, arXiv 1609.08326."""
    d = w - p
    c = c + (d - lam / lr * d * d * (c - p))
    return c, c


@rule
def gap_aware(c, w, p, *, step=1e-3):
    """Progress is damped by the gap between center and previous in mean steps. Barkai, Hakimi, Schuster 2020."""
    c = c + (w - p) / (np.abs(c - p) / step + 1)
    return c, c


@rule
def adagrad(c, w, p, squares, *, lr=0.01, epsilon=1e-7):
    """DOWNPOUR with Adagrad at the center: a step for each parameter. Dean et al. 2012; Duchi, Hazan, Singer 2011."""
    d = w - p
    squares = squares + d * d
    c = c + lr * d / (np.sqrt(squares) + epsilon)
    return c, c, squares


@rule
def single(c, w):
    """The center mirrors its only worker: plain training, seen through the same glass."""
    return w, w


@rule
def independent(c, w):
    """Every worker goes its own way, as members of an ensemble do; the center mirrors the last one that came."""
    return w, w


agn = adag

REGISTRY: dict[str, Rule] = {name: value for name, value in list(globals().items()) if isinstance(value, Rule)}
