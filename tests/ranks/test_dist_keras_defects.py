"""What dist-keras gets wrong about rules and center, one regression each, with the mathematics.

The defects of its trainers are in the tests of trainers, exchange and launch.
"""

import threading

import numpy as np
import pytest

import dkcore as dk
from dkcore import rules


def in_threads(work, count: int) -> None:
    """Run ``work(rank)`` in threads that begin in the same instant; the engine lets them run at once."""
    barrier = threading.Barrier(count)

    def begin(rank):
        barrier.wait()
        work(rank)

    threads = [threading.Thread(target=begin, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_aeasgd_pull_and_commit_are_one():
    """dist-keras pulls the center, computes e, and commits e later.

    With alpha = 1/2, c = 0 and n workers at w = 1, one exchange each: whoever is k-th finds c = 1 - 2**(1-k), its force is
    e = 2**-k, and so in the end c = 1 - 2**-n while the workers hold 1 - 2**-k, k = 1...n, in some order. Always, exactly,
    and within [0, 1]. When all pull before the first commits, each force is 1/2 and c = n/2: beyond every worker.
    """
    workers, size = 4, 200_000
    ranks = 1 - 2.0 ** -np.arange(1.0, workers + 1)
    with dk.Center.create(np.zeros(size), stripe_bytes=8 * size) as center:
        slots = [center.worker() for _ in range(workers)]
        calls = [slot.call(rules.aeasgd, alpha=0.5) for slot in slots]
        for _ in range(8):
            center.restore(np.zeros(size))
            weights = np.ones((workers, size))
            in_threads(lambda rank, weights=weights: calls[rank].flat(weights[rank]), workers)
            np.testing.assert_array_equal(center.snapshot(), 1 - 2.0**-workers)
            np.testing.assert_array_equal(np.sort(weights, axis=0), np.repeat(ranks[:, None], size, axis=1))


def test_dynsgd_reads_staleness_and_counts_under_the_lock():
    """dist-keras reads the staleness, and raises the counter of commits, outside of the lock of the update.

    Let tau be the staleness that an exchange is told: the commits of others since its worker's last one. Then the number
    of the exchange, among all of its stripe, is that of the last one + tau + 1. So from what the workers were told all
    numbers can be told, and they must be 1...N, each once: a lost count would make two alike, a late reading would
    leave a gap. The center must have been damped by just these, c = sum of 1 / (tau + 1).
    """
    workers, times, size = 4, 1500, 4000
    told = np.zeros((workers, times))
    with dk.Center.create(np.zeros(size), stripe_bytes=8 * size) as center:
        slots = [center.worker() for _ in range(workers)]

        def work(rank):
            w, call = np.zeros(size), slots[rank].call(rules.dynsgd)
            for k in range(times):
                w += 1
                call.flat(w)
                told[rank, k] = call.staleness

        in_threads(work, workers)
        numbers = np.cumsum(told + 1, axis=1)
        np.testing.assert_array_equal(np.sort(numbers.ravel()), np.arange(1, workers * times + 1))
        np.testing.assert_allclose(center.snapshot(), np.sum(1 / (told + 1)), rtol=1e-10)
        assert (told > 0).sum() > workers, "they worked one after the other: this proved nothing"


KERAS = """
import keras
optimizer = keras.optimizers.SGD(learning_rate=0.1, momentum=0.9, nesterov=True)
variable = keras.Variable([1.0], dtype="float64")
optimizer.build([variable])
for _ in range(199):
    optimizer.apply([np.array(variable)], [variable])  # of 0.5 w**2 the gradient is w
print(float(variable[0]), float(optimizer.learning_rate))
"""


def test_eamsgd_steps_downhill_by_the_momentum_of_keras(script, monkeypatch):
    """The local step of EAMSGD (arXiv 1412.6651): v = delta v - eta g(w + delta v); w += v. On 0.5 w**2, g(w) = w.

    Keras' SGD(nesterov=True) keeps y = w + delta v, the point where the gradient is taken, as its variable:
    v' = delta v - eta g(y);  y' = y + delta v' - eta g(y). Proof: w' + delta v' = (y - delta v) + v' + delta v', and
    v' - delta v = -eta g(y). The error shrinks by sqrt(delta (1 - eta)) a step: for 0.9 and 0.1 by 0.9, to about 8e-10.

    dist-keras takes the gradient at w - delta v, uphill: v = delta v - eta (w - delta v) has the factor delta (1 + eta)
    instead, sqrt(0.99), and 199 steps leave 0.29. That is at an effective eta of 0.1; since it applies its rate twice,
    a user gets there by lr = sqrt(0.1).
    """
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    keras, eta = map(float, script(KERAS).end().split())
    delta, w, v = 0.9, 1.0, 0.0
    wrong_w, wrong_v = 1.0, 0.0
    for _ in range(199):
        v = delta * v - eta * (w + delta * v)
        w += v
        wrong_v = delta * wrong_v - eta * (wrong_w - delta * wrong_v)
        wrong_w += wrong_v
    assert w == pytest.approx(7.8e-10, rel=0.01)
    assert keras == pytest.approx(w + delta * v, rel=1e-6)
    assert wrong_w == pytest.approx(0.29, rel=0.02)
