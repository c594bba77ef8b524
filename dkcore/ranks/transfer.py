"""Arrays between ranks: as they lie in memory and in pieces, for MPI counts to 2**31, and pickling makes a second copy."""

from typing import TYPE_CHECKING

import numpy as np

from dkcore.arrays import Array

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["PIECE", "broadcast", "gather"]

PIECE = 1 << 28  # bytes of one message
GATHER = 6  # the tag


def pieces(array: Array) -> list[Array]:
    """The bytes of a contiguous array, one piece after the other."""
    data = array.reshape(-1).view(np.uint8)
    return [data[begin : begin + PIECE] for begin in range(0, data.size, PIECE)]


def broadcast(comm: "Comm", array: Array) -> None:
    """Rank 0's values into the arrays of all ranks, which are contiguous and alike; all call it."""
    for piece in pieces(array):
        comm.Bcast(piece, root=0)


def gather(comm: "Comm", array: Array) -> list[Array] | None:
    """The arrays of all ranks, which are alike, on rank 0; None elsewhere; all call it."""
    mine = np.array(array, order="C")
    if comm.rank:
        for piece in pieces(mine):
            comm.Send(piece, 0, GATHER)
        return None
    others = [np.empty_like(mine) for _ in range(1, comm.size)]
    for rank, other in enumerate(others, 1):
        for piece in pieces(other):
            comm.Recv(piece, rank, GATHER)
    return [mine, *others]
