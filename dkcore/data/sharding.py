"""Which rows a rank trains on: its part of what lies where all ranks see it, or of what it and its neighbours brought along.

Under Spark each rank has a directory of its own, with the rows of its executor. Ranks of one node pool theirs, so that
each has as much to do as the others. What is held out for tests goes to rank 0, the one that evaluates.
"""

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore.data.arrays import SIDECAR, read, read_pieces
from dkcore.data.shard import NodeShard, Shard
from dkcore.errors import DataError, expected

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from dkcore.ranks.world import World

__all__ = ["node_shard", "shards"]

CHUNK = 4 << 20  # bytes of a message
TAG = 4  # of what is sent here


def shards(directory: Path | str, world: "World") -> tuple[Shard, Shard | None]:
    """What this rank trains on, maybe nothing, and on rank 0 what to evaluate on, if there is such; all ranks call it.

    directory: of `dkcore.data.arrays.write`, the same for all ranks; or of pieces, to each rank its own. DataError when no rank has rows.
    """
    directory = Path(directory)
    content = json.loads((directory / SIDECAR).read_text()) if (directory / SIDECAR).exists() else {}
    if "pieces" not in content:
        test = Shard(directory, part="test") if world.rank == 0 and "x_test" in read(directory) else None
        return Shard(directory, world.rank, world.size), test
    everyone = world.comm.allgather(content)
    content["columns"] = next((other["columns"] for other in everyone if other["columns"]), None)
    if content["columns"] is None:
        raise DataError(expected("rows on any rank", "none", "Is the DataFrame empty?"))
    pooled = pool(everyone, world)
    together = pooled[world.rank]
    files = [file for rank in together for file in everyone[rank]["pieces"]["train"]]
    tests = collect_tests(directory, everyone, pooled[0], world)
    arrays = read_pieces(content | {"pieces": {"train": files, "test": tests}})
    train = Shard(arrays, together.index(world.rank), len(together))
    return train, Shard(arrays, part="test") if tests else None


def node_shard(shard: Shard, world: "World") -> NodeShard:
    """What the ranks of this node train on together; all ranks of it call this. DataError when they do not see each other's rows."""
    ranks = world.node.allgather(shard.rank)
    if len(set(ranks)) < len(ranks):
        advice = "Put the rows where all ranks of a node can read them, or pass sharding='fixed'."
        raise DataError(expected("rows that all ranks of a node can read", "some that only one rank can", advice))
    node = world.node.bcast(world.leaders.rank if world.leaders is not None else None)
    even = len(set(world.comm.allgather(len(ranks)))) == 1
    if shard.size == len(ranks):  # all rows are here
        ranks, size = [0], 1
    else:
        ranks, size = ([node], world.nodes) if even else (ranks, shard.size)
    return NodeShard(shard, ranks, size, node=node, sharers=world.node_size)


def pool(everyone: list[dict[str, Any]], world: "World") -> list[list[int]]:
    """For each rank those that it shares rows with: the ranks of its node, if each of them can open the files of all."""
    mine = world.node.allgather(world.rank)
    files = [file for rank in mine for part in everyone[rank]["pieces"].values() for file in part]
    seen = world.node.allgather(all(os.access(file, os.R_OK) for file in files))
    return world.comm.allgather(mine if all(seen) else [world.rank])


def collect_tests(directory: Path, everyone: list[dict[str, Any]], seen: list[int], world: "World") -> list[str]:
    """On rank 0 the files of all ranks' test rows; those that it does not see are sent to it, into its directory."""
    files = [file for rank in seen for file in everyone[rank]["pieces"].get("test", [])] if world.rank == 0 else []
    for rank, other in enumerate(everyone):
        for file in other["pieces"].get("test", []) if rank not in seen else []:
            if world.rank == rank:
                send(Path(file), world.comm)
            elif world.rank == 0:
                files.append(str(directory / f"test-of-rank-{rank}-{secrets.token_hex(6)}.arrow"))
                receive(Path(files[-1]), rank, world.comm)
    return files


def send(file: Path, comm: "Comm") -> None:
    """Send a file to rank 0, in messages of which the last one is empty."""
    with file.open("rb") as source:
        while chunk := source.read(CHUNK):
            comm.send(chunk, 0, TAG)
    comm.send(b"", 0, TAG)


def receive(file: Path, rank: int, comm: "Comm") -> None:
    """Write what a rank sends into a file."""
    with file.open("wb") as target:
        while chunk := comm.recv(source=rank, tag=TAG):
            target.write(chunk)
