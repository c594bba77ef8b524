"""One rank of the tests of the merge: exchanges whole numbers with the center, and tells what came of it in a file.

``OUT SIZE EXCHANGES [NAME=VALUE...]``, names: dtype; uneven: first node's exchanges are multiplied by it; nap: seconds between
exchanges; rule; staleness: its bound; odd: a setting that only the last rank has; others are settings of `Center.of`.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

import dkcore as dk

out, size, exchanges = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
options = dict(argument.split("=") for argument in sys.argv[4:])
uneven, dtype, nap = int(options.pop("uneven", 1)), options.pop("dtype", "float32"), float(options.pop("nap", 0))
rule, bound = getattr(dk.rules, options.pop("rule", "downpour")), options.pop("staleness", None)
odd = options.pop("odd", None)
if odd == "threads":
    import mpi4py

    mpi4py.rc.thread_level = "funneled"
world = dk.init()
last = world.rank == world.size - 1
if last and odd == "size":
    size += 1
if last and odd == "dtype":
    dtype = "float64"
if last and odd == "version":
    dk.__version__ = "0.0.0"
if last and odd == "compression":
    options["merge_compression"] = "bf16"
options = {name: float(value) if name == "merge_timeout" else value for name, value in options.items()}
center = dk.Center.of(np.zeros(size, dtype), world, rule=rule, **options)
first_node = world.names[0].partition("rank")[2]
if str(world.rank) in first_node:
    exchanges *= uneven
worker = center.worker(world.rank)
w, p = np.zeros(size, dtype), np.zeros(size, dtype)
scalars = {name: 1.0 for name in rule.scalars if name not in ("window", "staleness", "workers")}
call = worker.call(rule, p=p, max_staleness=None if bound is None else int(bound), **scalars)
center.meeting.learn(dk.rules.adag if last and odd == "rule" else rule, scalars)
step = (np.arange(size) % 7 + world.rank + 1).astype(dtype)
apart = 0
(out / f"pid-{world.rank}").write_text(str(os.getpid()))
try:
    for number in range(exchanges):
        w += step
        call.flat(w)
        time.sleep(nap)
        if number == 5:
            (out / f"begun-{world.rank}").touch()
        slowest = min((slot["exchanges"] for slot in center.slots() if slot["state"] == "claimed"), default=0) if bound else 0
        apart = max(apart, center.slot(worker)["exchanges"] - slowest) if bound else 0
    worker.release()
    center.finish()
except dk.errors.DkcoreError as error:
    (out / f"error-{world.rank}").write_text(str(error))
    raise
mine, states = center.snapshot(), [center.snapshot(state=1 + k) for k in range(center.states)]
everyone = world.comm.allgather((hashlib.sha256(b"".join(x.tobytes() for x in [mine, *states])).hexdigest(), exchanges))
steps = [(count, np.arange(size) % 7 + rank + 1.0) for rank, (_, count) in enumerate(everyone)]
wanted = sum(count * step for count, step in steps)
told = {"nodes": world.nodes, "equal": len({digest for digest, _ in everyone}) == 1, "wanted": sum(count for count, _ in steps)}
told |= {"exact": bool((mine == wanted).all()), "error": float(np.abs(mine / wanted - 1).max())}
told |= {"versions": sorted(set(center.versions.tolist()))}
if states:
    squares = sum(count * step**2 for count, step in steps)
    told["states"] = float(np.abs(states[0] / squares - 1).max())
told |= {"apart": int(apart), "histogram": center.slots()[0]["histogram"].tolist()[:5]}
if center.meeting.merge:
    told |= center.meeting.merge.sums()
(out / f"told-{world.rank}").write_text(json.dumps(told))
center.close()
