"""Sums over the nodes, in a pipeline of chunks: while one chunk crosses the wire, the next is taken from the center.

Design:
(a) A chunk is cut into one part a node. Each node sends its parts to their owners (a reduce-scatter), who add them up and send
    the sums to all (an all-gather): each leader sends and receives 2 (nodes - 1) / nodes of the vector, which is the least.
(b) One owner adds up, and all take its bytes: the sums are equal bit for bit everywhere, whatever the order of arrival.
(c) Statistics are averaged instead, node by node, by a formula that stays between what it averages.
(d) With a codec, what is sent is replaced by what will be read, so that each node can leave the rest in c - s. The
    owner sends the sum encoded once more; what that leaves over it keeps, and adds to its next sum.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dkcore.arrays import Array
from dkcore.engine.merge_formulas import FORMULAS
from dkcore.merge.leaders import Peers

if TYPE_CHECKING:
    from mpi4py.MPI import Request

    from dkcore.engine.codec import Codec

__all__ = ["Chunk", "Reduction", "chunks_of"]

PARTS, COUNTS, SUMS = 1, 2, 3  # tags
AHEAD = 6  # chunks between two stages of the pipeline
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """Stripes ``first`` ... ``end - 1`` of one vector (0: the center, k: its k-th state); where its elements begin, and how many it has.

    statistics: they are positions, which are averaged, and sent as they are. shared: the first stripe is of another chunk, too.
    """

    vector: int
    first: int
    end: int
    begin: int
    length: int
    statistics: bool = False
    shared: bool = False


def chunks_of(length: int, stripe_length: int, itemsize: int, vectors: int, statistics: int = 0) -> list[Chunk]:
    """The chunks of that many vectors; then those of statistics, which are the last elements of the center alone."""
    step, split = max(CHUNK_BYTES // (stripe_length * itemsize), 1), length - statistics
    chunks = []
    for vector, begin, end in [*((vector, 0, split) for vector in range(vectors)), (0, split, length)]:
        stripes = range(begin // stripe_length, -(-end // stripe_length), step) if begin < end else ()
        for first in stripes:
            start, stop = max(first * stripe_length, begin), min((first + step) * stripe_length, end)
            of = {"statistics": begin == split, "shared": start > first * stripe_length}
            chunks.append(Chunk(vector, first, -(-stop // stripe_length), start, stop - start, **of))
    return chunks


@dataclass(eq=False)
class Flight:
    """A chunk under way, and its buffers. given: what this node sent of it; total: the sum; counts: one number a stripe."""

    chunk: Chunk
    given: Array
    total: Array
    counts: Array
    others: Array  # counts of the other nodes
    parts: list[Array] = field(default_factory=list)  # views of what others sent of my part
    requests: "list[Request]" = field(default_factory=list)
    sends: "list[Request]" = field(default_factory=list)
    lent: list[Array] = field(default_factory=list)  # what `Reduction.room` gave for it


Contributes: TypeAlias = Callable[[Chunk, Array, Array], None]
Applies: TypeAlias = Callable[[Chunk, Array, Array, Array, Array], None]


class Reduction:
    """Rounds of sums over the leaders' vectors.

    peers: the leaders. dtype: of the vectors. codec: a `dkcore.engine.codec.Codec`, or None. scale: for each vector, what the sum is
    multiplied by. Attributes: weights: of the nodes, in the mean of statistics; bytes_sent, bytes_plain: what was sent, and what it
    would have been without a codec.
    """

    def __init__(self, peers: Peers, dtype: np.dtype[np.floating[Any]], codec: "Codec | None", scale: Callable[[int], float]):
        self.peers, self.dtype, self.codec, self.scale = peers, dtype, codec, scale
        self.held: dict[Chunk, Array] = {}  # what encoding my sums left over
        self.weights = np.ones(peers.size)
        self.bytes_sent = self.bytes_plain = 0
        self.free: list[Flight] = []
        self.spare: dict[tuple[int, np.dtype[Any]], list[Array]] = {}
        self.flying: list[Flight] = []
        self.taken = 0  # chunks of the round under way
        self.lost: list[Flight] = []

    def round(self, chunks: list[Chunk], contribute: Contributes, apply: Applies, exact: bool = False) -> None:
        """Sum all chunks over the nodes.

        contribute(chunk, values, counts): fill in what this node gives. apply(chunk, given, total, counts, counts_of_all): the sum.
        exact: without the codec, and with all that was left over.
        """
        self.taken, self.flying = 0, []
        codec = None if exact else self.codec
        for step in range(len(chunks) + 2 * AHEAD):
            if step < len(chunks):
                self.flying.append(self.depart(chunks[step], contribute, codec))
            if 0 <= step - AHEAD < len(chunks):
                self.sum_up(self.flying[step - AHEAD - self.taken], codec, exact)
            if 0 <= step - 2 * AHEAD < len(chunks):
                self.arrive(self.flying[0], apply, codec)

    def drop(self, put_back: Callable[[Chunk, Array], None]) -> None:
        """Give up the round under way, and put what is held of sums back: put_back(chunk, values)."""
        for chunk, held in self.held.items():
            values = np.zeros(chunk.length, self.dtype)
            values[self.bounds(chunk, self.peers.rank)] = held
            put_back(chunk, values)
        self.held.clear()
        self.lost += self.flying  # MPI may still write there
        self.flying, self.free, self.taken = [], [], 0  # buffers are for as many peers as there were

    def bounds(self, chunk: Chunk, node: int) -> slice:
        return slice(chunk.length * node // self.peers.size, chunk.length * (node + 1) // self.peers.size)

    def depart(self, chunk: Chunk, contribute: Contributes, codec: "Codec | None") -> Flight:
        """First stage: take the chunk, and send its parts to their owners."""
        flight, peers, codec = self.flight_for(chunk), self.peers, None if chunk.statistics else codec
        given, mine = flight.given[: chunk.length], self.bounds(chunk, peers.rank)
        contribute(chunk, given, flight.counts)
        for node in range(peers.size):
            part = given[self.bounds(chunk, node)]
            data = part if codec is None else self.encode(codec, part, None, flight)
            if node != peers.rank:
                flight.sends.append(self.send(data, part.nbytes, node, PARTS))
                flight.sends.append(self.send(flight.counts, 0, node, COUNTS))
        width = mine.stop - mine.start
        flight.parts = [self.room(codec, width, flight) for _ in peers.others]
        for index, node in enumerate(peers.others):
            flight.requests.append(peers.comm.Irecv(flight.parts[index], node, PARTS))
            flight.requests.append(peers.comm.Irecv(flight.others[index], node, COUNTS))
        return flight

    def sum_up(self, flight: Flight, codec: "Codec | None", exact: bool) -> None:
        """Second stage: add up the parts of all nodes, and send the sum to all."""
        chunk, peers = flight.chunk, self.peers
        codec = None if chunk.statistics else codec
        self.finish(flight.requests)
        mine = self.bounds(chunk, peers.rank)
        total = flight.total[mine]
        np.copyto(total, flight.given[mine])
        if chunk.statistics:
            self.average(total, flight.parts)
        else:
            self.add(chunk.vector, total, flight.parts, codec)
        if exact and chunk in self.held:
            np.add(total, self.held.pop(chunk), out=total)
        data = total
        if codec is not None:
            data = self.encode(codec, total, self.held_of(chunk, total.size), flight)
        for node in peers.others:
            flight.sends.append(self.send(data, total.nbytes, node, SUMS))
        bounds = [self.bounds(chunk, node) for node in peers.others]
        flight.parts = [flight.total[b] if codec is None else self.room(codec, b.stop - b.start, flight) for b in bounds]
        for part, node in zip(flight.parts, peers.others, strict=True):
            flight.requests.append(peers.comm.Irecv(part, node, SUMS))

    def add(self, vector: int, total: Array, parts: list[Array], codec: "Codec | None") -> None:
        for part in parts:
            np.add(total, part, out=total) if codec is None else codec.decode_add(part, total)
        if (scale := self.scale(vector)) != 1:
            np.multiply(total, self.dtype.type(scale), out=total)

    def average(self, total: Array, parts: list[Array]) -> None:
        """The mean of statistics; a node without weight has no part in it."""
        reached = float(self.weights[self.peers.rank])
        for node, part in zip(self.peers.others, parts, strict=True):
            if weight := float(self.weights[node]):
                reached += weight
                total[:] = FORMULAS["statistic_mean"](total, part, share=weight / reached)[0]

    def arrive(self, flight: Flight, apply: Applies, codec: "Codec | None") -> None:
        """Third stage: the sums of all owners are there."""
        chunk = flight.chunk
        self.finish(flight.requests)
        if codec is not None and not chunk.statistics:
            for part, node in zip(flight.parts, self.peers.others, strict=True):
                codec.decode(part, flight.total[self.bounds(chunk, node)])
        counts = flight.counts + flight.others.sum(axis=0, dtype=np.uint64)
        apply(chunk, flight.given[: chunk.length], flight.total[: chunk.length], flight.counts, counts)
        self.taken += 1
        self.flying.pop(0)
        self.finish(flight.sends)
        for lent in flight.lent:
            self.spare[lent.size, lent.dtype].append(lent)
        flight.lent.clear()
        self.free.append(flight)

    def finish(self, requests: "list[Request]") -> None:
        self.peers.wait(requests)
        requests.clear()

    def send(self, data: Array, plain: int, node: int, tag: int) -> "Request":
        self.bytes_sent += data.nbytes
        self.bytes_plain += plain or data.nbytes
        return self.peers.comm.Isend(data, node, tag)

    def encode(self, codec: "Codec", values: Array, residual: Array | None, flight: Flight) -> Array:
        out = self.room(codec, values.size, flight)
        codec.encode(values, out, residual)
        return out

    def held_of(self, chunk: Chunk, size: int) -> Array:
        if chunk not in self.held:
            self.held[chunk] = np.zeros(size, self.dtype)
        return self.held[chunk]

    def room(self, codec: "Codec | None", elements: int, flight: Flight) -> Array:
        """Memory for that many elements as they cross the wire, until the flight arrives. Used anew: fresh pages are slow."""
        size, dtype = (elements, self.dtype) if codec is None else (codec.bytes(elements, self.dtype), np.dtype(np.uint8))
        spare = self.spare.setdefault((size, dtype), [])
        flight.lent.append(spare.pop() if spare else np.empty(size, dtype))
        return flight.lent[-1]

    def flight_for(self, chunk: Chunk) -> Flight:
        """Buffers for a chunk: those of one that has arrived, if there are."""
        stripes = chunk.end - chunk.first
        for flight in self.free:
            if flight.given.size >= chunk.length and flight.counts.size == stripes:
                self.free.remove(flight)
                flight.chunk = chunk
                flight.counts[:] = 0
                return flight
        given, total = np.empty(chunk.length, self.dtype), np.empty(chunk.length, self.dtype)
        counts = np.zeros(stripes, np.uint64)
        return Flight(chunk, given, total, counts, np.zeros((self.peers.size - 1, stripes), np.uint64))
