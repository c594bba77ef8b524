"""Ranks come to one center, or all of them say why not."""

import pytest
from mpi_ranks import python, write_script

MODEL = "def model(rank):\n    return keras.Sequential([keras.Input((3,)), keras.layers.Dense({units})])\n"


def run(tmp_path, body: str, model: str = MODEL.format(units=4), ranks: int = 2):
    script = write_script(tmp_path, "import keras\nimport numpy as np\n" + model + body)
    return python("mpich", script, ranks=ranks, timeout=60, KERAS_BACKEND="jax")


def test_all_ranks_share_rank_zeros_weights(tmp_path):
    body = """
mine = model(world.rank)
first = world.comm.bcast(dk.Replica(mine).read())
with dk.Center.of(mine, world) as center:
    assert (center.snapshot() == first).all()
    print(f"differs {world.comm.allreduce(float(np.abs(dk.Replica(mine).read() - first).max())) > 0}")
    world.comm.Barrier()
    w, p = first.copy(), first.copy()
    w += 2.0 ** world.rank
    center.exchange(dk.rules.downpour, w, p)
    world.comm.Barrier()
    print(f"sum {np.abs(center.snapshot() - first - 3).max() < 1e-5}")
    world.comm.Barrier()
"""
    ended = run(tmp_path, body)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("differs True") == ended.stdout.count("sum True") == 2


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ("4 + rank", "(3, 4) on rank 0 and sequential/dense/kernel (3, 5) on rank 1"),
        ("4, use_bias=rank == 0", "2 weights on rank 0 and 1 on rank 1"),
    ],
)
def test_models_that_differ_are_refused_on_every_rank(tmp_path, units, message):
    body = """
try:
    dk.Center.of(model(world.rank), world)
except dk.errors.LayoutError as error:
    print(f"refused {error}")
"""
    ended = run(tmp_path, body, MODEL.format(units=units))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("refused Expected the same model on every rank") == 2
    assert message in ended.stdout


def test_one_rank_without_weights_fails_all_and_hangs_none(tmp_path):
    layer = "keras.layers.Flatten() if rank else keras.layers.Dense(1)"
    model = f"def model(rank):\n    return keras.Sequential([keras.Input((3,)), {layer}])\n"
    body = """
try:
    dk.Center.of(model(world.rank), world)
except dk.errors.DkcoreError as error:
    print(f"{world.rank} {type(error).__name__} {error}")
try:
    dk.Center.of(np.zeros(3), world, rule="adagrid" if world.rank else "adagrad")
except dk.errors.DkcoreError as error:
    print(f"rule {error}")
"""
    ended = run(tmp_path, body, model)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Did you mean 'adagrad'?") == 2
    assert "1 ModelError Expected" in ended.stdout
    assert "0 DkcoreError rank 1 has no replica: Expected" in ended.stdout


def test_no_room_on_the_node_fails_all_and_hangs_none(tmp_path):
    body = """
from dkcore import errors
def full(*a, **k):
    raise errors.NoRoomError("have 1, need 2")
dk.Center.create = full
try:
    dk.Center.of(model(world.rank), world)
except (errors.DkcoreError, OSError) as error:
    print(f"{world.rank} {type(error).__name__}")
"""
    ended = run(tmp_path, body)
    assert ended.returncode == 0, ended.stderr
    assert "0 NoRoomError" in ended.stdout
    assert "1 NoRoomError" in ended.stdout
