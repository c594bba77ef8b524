"""One rank of the tests of synchronous methods: some rounds on a flat vector, and what the center and it hold after each.

``OUT METHOD SIZE ROUNDS [NAME=VALUE...]``: uneven=1: rank r leaves r rounds early; compression; others are the method's scalars.
"""

import sys
from pathlib import Path

import numpy as np

import dkcore as dk


@dk.synchronous
def halfway(c, t, *, workers):
    """A method of one's own: half of the way to the mean."""
    return (c + t / workers / 2,)


out, name, size, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
options = dict(argument.split("=") for argument in sys.argv[5:])
compression = options.pop("compression", "none")
scalars = {key: float(value) for key, value in options.items()}
uneven = scalars.pop("uneven", 0)
method = halfway if name == "halfway" else getattr(dk.rules, name)
world = dk.init()
center = dk.Center.of(np.linspace(-1, 1, size), world, rule=method, merge_compression=compression)
worker = center.worker(world.rank)
call = worker.call(method.gather, **method.part(method.gather, scalars))
center.membership.learn(method, method.fill(scalars, ("workers",)))
pull = worker.pull_call()
w, held = np.zeros(size), []
pull.flat(w)
for number in range(rounds - int(uneven) * world.rank):
    w += (world.rank + 1) * np.cos(np.arange(size) + number)
    call.flat(w)
    center.membership.round(30.0)
    if method.pull:
        pull.flat(w)
    held.append(w.copy())
center.membership.leave_rounds()
worker.release()
center.finish()
np.savez(out / f"rank-{world.rank}.npz", center=center.snapshot(), held=np.array(held))
center.close()
