"""The built-in algorithms: every asynchronous optimizer is one exchange between three vectors, element by element.

``c`` is the center variable, shared by all workers of a node. ``w`` is the worker: the weights of its own replica.
``p`` is the previous: what the worker held just after its last exchange, so that ``w - p`` is its progress.
Synchronous methods are at the end: ``t`` is the sum of what all workers handed in, see `dkcore.synchronous`.
"""

import numpy as np

from dkcore.arrays import Array
from dkcore.formula.rule import Rule, rule
from dkcore.formula.synchronous import Synchronous, hand_in_elastic, synchronous


@rule
def downpour(c: Array, w: Array, p: Array) -> tuple[Array, Array]:
    """Every worker's progress is added to the center. Dean et al. 2012, Large scale distributed deep networks."""
    c = c + (w - p)
    return c, c


@rule
def adag(c: Array, w: Array, p: Array, *, window: float) -> tuple[Array, Array]:
    """Accumulated gradient normalization. Hermans, Spanakis, Moeckel 2017, arXiv 1710.02368."""
    c = c + (w - p) / window
    return c, c


@rule
def dynsgd(c: Array, w: Array, p: Array, *, staleness: float) -> tuple[Array, Array]:
    """Progress is damped by the commits that others made meanwhile. Hermans 2017, after Jiang et al. 2017 (SIGMOD)."""
    c = c + (w - p) / (staleness + 1)
    return c, c


@rule
def consgd(c: Array, w: Array, p: Array, *, workers: float) -> tuple[Array, Array]:
    """Progress is divided by the number of workers. Jiang et al. 2017 (SIGMOD), Heterogeneity-aware parameter servers."""
    c = c + (w - p) / workers
    return c, c


@rule
def aeasgd(c: Array, w: Array, *, alpha: float = 0.5) -> tuple[Array, Array]:
    """Center and worker pull each other elastically; c + w is kept. Zhang, Choromanska, LeCun 2015, arXiv 1412.6651."""
    e = alpha * (w - c)
    return c + e, w - e


@rule
def adag_distance(c: Array, w: Array, p: Array, *, window: float, lr: float = 1e-4) -> tuple[Array, Array]:
    """ADAG damped by how far the center has moved, per parameter: dist-keras' Experimental. Hermans 2017, thesis."""
    c = c + (w - p) / window / ((c - p) ** 2 / lr + 1)
    return c, c


@rule
def dc_asgd(c: Array, w: Array, p: Array, *, lam: float = 0.04, lr: float = 0.01) -> tuple[Array, Array]:
    """Delay compensation by a diagonal of the Hessian. Zheng et al. 2017, arXiv 1609.08326."""
    d = w - p
    c = c + (d - lam / lr * d * d * (c - p))
    return c, c


@rule
def gap_aware(c: Array, w: Array, p: Array, *, step: float = 1e-3) -> tuple[Array, Array]:
    """Progress is damped by the gap between center and previous in mean steps. Barkai, Hakimi, Schuster 2020."""
    c = c + (w - p) / (np.abs(c - p) / step + 1)
    return c, c


@rule
def adagrad(c: Array, w: Array, p: Array, squares: Array, *, lr: float = 0.01, epsilon: float = 1e-7) -> tuple[Array, Array, Array]:
    """DOWNPOUR with Adagrad at the center: a step for each parameter. Dean et al. 2012; Duchi, Hazan, Singer 2011."""
    d = w - p
    squares = squares + d * d
    c = c + lr * d / (np.sqrt(squares) + epsilon)
    return c, c, squares


@rule
def single(c: Array, w: Array) -> tuple[Array, Array]:
    """The center mirrors its only worker: plain training, seen through the same glass."""
    return w, w


@rule
def independent(c: Array, w: Array) -> tuple[Array, Array]:
    """Every worker goes its own way, as members of an ensemble do; the center mirrors the last one that came."""
    return w, w


@synchronous
def averaging(c: Array, t: Array, *, workers: float) -> tuple[Array]:
    """Model averaging: every window steps all go on from their mean. Moritz et al. 2015 (SparkNet), arXiv 1511.06051."""
    return (c + t / workers,)


@synchronous(gather=hand_in_elastic, pull=False)
def easgd(c: Array, t: Array, *, alpha: float) -> tuple[Array]:
    """Synchronous elastic averaging, beta = workers * alpha. Zhang, Choromanska, LeCun 2015, arXiv 1412.6651."""
    return (c + alpha * t,)


@synchronous
def diloco(c: Array, t: Array, v: Array, *, workers: float, lr: float = 0.7, momentum: float = 0.9) -> tuple[Array, Array]:
    """Outer Nesterov momentum on the mean progress. Douillard et al. 2023 (DiLoCo), arXiv 2311.08105."""
    d = t / workers
    v = momentum * v + d
    return c + lr * (momentum * v + d), v


@synchronous
def slowmo(c: Array, t: Array, v: Array, *, workers: float, lr: float = 1.0, momentum: float = 0.7) -> tuple[Array, Array]:
    """Slow momentum on the mean progress. Wang et al. 2020 (SlowMo), arXiv 1910.00643."""
    v = momentum * v + t / workers
    return c + lr * v, v


agn = adag

BUILT_IN = {name: value for name, value in list(globals().items()) if value is not hand_in_elastic}
REGISTRY: dict[str, Rule] = {name: value for name, value in BUILT_IN.items() if isinstance(value, Rule)}
METHODS: dict[str, Synchronous] = {name: value for name, value in BUILT_IN.items() if isinstance(value, Synchronous)}
