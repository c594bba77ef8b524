"""What is not final is not taken: on one rank, on one node, and when a rank trains on after `finish`."""

import subprocess
import sys

import pytest
from mpi_ranks import KINDS, environment, python, write_script

SCRIPT = """
import types
import numpy as np
written = []
sys.modules["dkcore.replica.replica"] = types.SimpleNamespace(Replica=lambda model: types.SimpleNamespace(write=written.append))
center = dk.Center.of(np.zeros(9, np.float32), world, rule="downpour")
w, p = np.zeros(9, np.float32), np.zeros(9, np.float32)

def refused() -> str:
    try:
        center.copy_to("model")
    except dk.errors.MergeError as error:
        return str(error)
    return ""

def told() -> list:
    world.comm.Barrier()
    found = center.snapshot().tolist()
    world.comm.Barrier()
    return found

expected = "Expected center.finish() on every rank before the center is taken. Received: {}. Call it when fit returns;"
assert refused().startswith(expected.format("none since the last training"))
for training in (1, 2):
    w += 1
    center.exchange("downpour", w, p)  # the second time by a call that was prepared before the last finish
    assert told() == [world.size * training] * 9  # anybody may look at any time
    reason = "none since the last training" if training == 1 else "exchanges since the last one"
    assert refused().startswith(expected.format(reason)), refused()
    center.copy_to("model", final=False)
    assert written.pop().tolist() == [world.size * training] * 9
    center.finish()
    assert refused() == ""
    assert written.pop().tolist() == [world.size * training] * 9
    p[:] = w = center.snapshot()
    world.comm.Barrier()
if world.rank == world.size - 1:  # one rank trains on: it has nothing final, the others have what all ended with
    center.exchange("downpour", w + 1, p)
world.comm.Barrier()
if world.rank == world.size - 1:
    assert refused().startswith(expected.format("exchanges since the last one"))
else:
    assert refused() == "" and written.pop().tolist() == [world.size * 2] * 9
    assert center.snapshot().tolist() == [world.size * 2 + 1] * 9
center.finish()
assert refused() == ""
center.close()

with dk.Center.create(np.ones(9, np.float32)) as own:  # of which no other rank was told
    own.exchange("downpour", np.zeros(9, np.float32), np.zeros(9, np.float32))
    own.copy_to("model")
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_center_is_taken_when_all_ranks_of_a_node_have_finished(kind, tmp_path):
    done = python(kind, write_script(tmp_path, SCRIPT), ranks=2)
    assert done.returncode == 0, done.stderr


def test_one_rank_finishes_like_many(tmp_path):
    script = write_script(tmp_path, SCRIPT)
    done = subprocess.run([sys.executable, script], env=environment("mpich"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
