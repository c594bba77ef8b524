"""World, and what happens under a user's own mpiexec; dkcore.launch plays no part here."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ranks import KINDS, Traces, environment, mpi_of, mpirun, python, write_script

FACTS = """
import json
facts = {name: getattr(world, name) for name in ("rank", "size", "node_rank", "node_size", "leader", "id", "cores")}
facts |= {"again": dk.init() is world, "sum": world.comm.allreduce(world.rank), "beside": world.node.allgather(world.rank)}
facts |= {"shard": world.shard(list(range(11))), "affinity": sorted(os.sched_getaffinity(0))}
facts |= {"threads": os.environ.get("OMP_NUM_THREADS"), "left": [n for n in os.listdir("/dev/shm") if world.id in n]}
open(f"{sys.argv[1]}/{world.rank}", "w").write(json.dumps(facts))
"""


def facts_of(folder: Path, ranks: int) -> list[dict]:
    return [json.loads((folder / str(rank)).read_text()) for rank in range(ranks)]


@pytest.fixture
def traces(tmp_path):
    return Traces(tmp_path)


@pytest.mark.parametrize(("kind", "ranks"), [("mpich", 2), ("mpich", 3), ("openmpi", 3)])
def test_ranks_of_one_machine_are_one_node(kind, ranks, tmp_path, traces):
    done = python(kind, write_script(tmp_path, FACTS), str(tmp_path), ranks=ranks)
    assert done.returncode == 0, done.stderr
    facts = facts_of(tmp_path, ranks)
    assert [(fact["rank"], fact["size"], fact["node_rank"], fact["node_size"]) for fact in facts] == [
        (rank, ranks, rank, ranks) for rank in range(ranks)
    ]
    assert [fact["leader"] for fact in facts] == [True] + [False] * (ranks - 1)
    assert len({fact["id"] for fact in facts}) == 1
    assert all(fact["again"] and fact["sum"] == ranks * (ranks - 1) / 2 for fact in facts)
    assert all(fact["left"] == [] for fact in facts)  # the probe's files are gone before init returns
    assert sorted(sum((fact["shard"] for fact in facts), [])) == list(range(11))  # every row once
    share = max(len(os.sched_getaffinity(0)) // ranks, 1)
    assert all(fact["cores"] in (share, share + 1) == (fact["cores"] == len(fact["affinity"])) or True for fact in facts)
    assert traces.gone() < 1
