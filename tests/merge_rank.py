"""One rank of the tests of the merge: adds whole numbers to the center, and tells what came of it.

``SIZE EXCHANGES [NAME=VALUE...]``: settings of `Center.of`; exchanges of ranks on the first node are multiplied by ``uneven``.
"""

import hashlib
import json
import sys

import numpy as np

import dkcore as dk

size, exchanges = int(sys.argv[1]), int(sys.argv[2])
options = dict(argument.split("=") for argument in sys.argv[3:])
uneven, dtype = int(options.pop("uneven", 1)), options.pop("dtype", "float32")
world = dk.init()
center = dk.Center.of(np.zeros(size, dtype), world, **options)
if world.node_rank >= 0 and world.names[0] == [name for name in world.names if str(world.rank) in name.partition("rank")[2]][0]:
    exchanges *= uneven
worker = center.worker(world.rank)
w, p = np.zeros(size, dtype), np.zeros(size, dtype)
call = worker.call(dk.rules.downpour, p=p)
step = (np.arange(size) % 7 + world.rank + 1).astype(dtype)
for _ in range(exchanges):
    w += step
    call.flat(w)
worker.release()
center.finish()
mine = center.snapshot()
everyone = world.comm.allgather((hashlib.sha256(mine.tobytes()).hexdigest(), exchanges))
wanted = sum(count * (np.arange(size) % 7 + rank + 1) for rank, (_, count) in enumerate(everyone))
told = {"rank": world.rank, "nodes": world.nodes, "equal": len({digest for digest, _ in everyone}) == 1}
told |= {"exact": bool((mine == wanted).all()), "versions": sorted(set(center.versions.tolist())), "wanted": sum(n for _, n in everyone)}
if center.meeting.merge:
    told |= center.meeting.merge.sums()
print(json.dumps(told))
center.close()
