"""One rank of the tests of lost nodes: adds whole numbers to the center, and leaves what it holds in the end in files.

``OUT SIZE EXCHANGES NAP [NAME=VALUE...]``: settings of `Center.of`. After the whole numbers the center has statistics, which go from 0
some way to the rank's number and 1, but never as far.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

import dkcore as dk
import dkcore.merge.join

STATISTICS = 200_000
dkcore.merge.join.Flat.statistics = STATISTICS
out, size, exchanges, nap = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
options = dict(argument.split("=") for argument in sys.argv[5:])
world = dk.init()
center = dk.Center.of(np.zeros(size + STATISTICS), world, on_node_loss="shrink", **options)
worker = center.worker(world.rank)
w, p = np.zeros(size + STATISTICS), np.zeros(size + STATISTICS)
call = worker.call(dk.rules.downpour, p=p)
step = np.arange(size) % 7 + world.rank + 1.0
(out / f"pid-{world.rank}").write_text(str(os.getpid()))
for number in range(exchanges):
    w[:size] += step
    w[size:] += 0.1 * (world.rank + 1 - w[size:])
    call.flat(w)
    time.sleep(nap)
    if number == 5:
        (out / f"begun-{world.rank}").touch()
worker.release()
center.finish()
np.save(out / f"center-{world.rank}.npy", center.snapshot())
np.save(out / f"versions-{world.rank}.npy", center.versions)
(out / f"lost-{world.rank}").write_text("\n".join(center.membership.merge.rounds.lost if center.membership.merge else []))
center.close()
