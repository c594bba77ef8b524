"""Sums over the nodes, in a pipeline of chunks: while one chunk crosses the wire, the next is taken from the center.

Design:
(a) A chunk is cut into one part a node. Each node sends its parts to their owners (a reduce-scatter), who add them up and send
    the sums to all (an all-gather): each leader sends and receives 2 (nodes - 1) / nodes of the vector, which is the least.
(b) One owner adds up, and all take its bytes: the sums are equal bit for bit everywhere, whatever the order of arrival.
(c) With a codec, what is sent is replaced by what will be read, so that the halves of the merge can leave the rest in c - s. The
    owner sends the sum encoded once more; what that leaves over it keeps, and adds to its next sum.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dkcore.peers import Peers

__all__ = ["Chunk", "Reduction", "chunks_of"]

PARTS, COUNTS, SUMS = 1, 2, 3  # tags
AHEAD = 6  # chunks between two stages of the pipeline
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """Stripes ``first`` ... ``end - 1`` of one vector (0: the center, k: its k-th state), and how many elements they have."""

    vector: int
    first: int
    end: int
    length: int


def chunks_of(length: int, stripe_length: int, itemsize: int, vectors: int) -> list[Chunk]:
    """The chunks of that many vectors."""
    stripes = -(-length // stripe_length)
    step = max(CHUNK_BYTES // (stripe_length * itemsize), 1)
    spans = [(first, min(first + step, stripes)) for first in range(0, stripes, step)]
    return [Chunk(v, a, b, min(b * stripe_length, length) - a * stripe_length) for v in range(vectors) for a, b in spans]


@dataclass(eq=False)
class Flight:
    """A chunk under way, and its buffers. given: what this node sent of it; total: the sum; counts: one number a stripe."""

    chunk: Chunk
    given: np.ndarray
    total: np.ndarray
    counts: np.ndarray
    others: np.ndarray  # counts of the other nodes
    parts: list[np.ndarray] = field(default_factory=list)  # views of what others sent of my part
    requests: list = field(default_factory=list)
    sends: list = field(default_factory=list)
    lent: list[np.ndarray] = field(default_factory=list)  # what `Reduction.room` gave for it


class Reduction:
    """Rounds of sums over the leaders' vectors.

    peers: the leaders. dtype: of the vectors. codec: a `dkcore.codec.Codec`, or None. scale: for each vector, what the sum is
    multiplied by. Attributes: bytes_sent, bytes_plain: what was sent, and what it would have been without a codec.
    """

    def __init__(self, peers: Peers, dtype, codec, scale: Callable[[int], float]):
        self.peers, self.dtype, self.codec, self.scale = peers, np.dtype(dtype), codec, scale
        self.held: dict[Chunk, np.ndarray] = {}  # what encoding my sums left over
        self.bytes_sent = self.bytes_plain = 0
        self.free: list[Flight] = []
        self.spare: dict[tuple, list[np.ndarray]] = {}
        self.flying: list[Flight] = []
        self.taken = 0  # chunks of the round under way
        self.lost: list[Flight] = []

    def round(self, chunks: list[Chunk], give: Callable, take: Callable, exact: bool = False) -> None:
        """Sum all chunks over the nodes.

        give(chunk, values, counts): fill in what this node gives. take(chunk, given, total, counts, counts_of_all): the sum.
        exact: without the codec, and with all that was left over.
        """
        self.taken, self.flying = 0, []
        codec = None if exact else self.codec
        for step in range(len(chunks) + 2 * AHEAD):
            if step < len(chunks):
                self.flying.append(self.depart(chunks[step], give, codec))
            if 0 <= step - AHEAD < len(chunks):
                self.sum_up(self.flying[step - AHEAD - self.taken], codec, exact)
            if 0 <= step - 2 * AHEAD < len(chunks):
                self.arrive(self.flying[0], take, codec)

    def drop(self, put_back: Callable) -> None:
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

    def depart(self, chunk: Chunk, give: Callable, codec) -> Flight:
        """First stage: take the chunk, and send its parts to their owners."""
        flight, peers = self.flight_for(chunk), self.peers
        given, mine = flight.given[: chunk.length], self.bounds(chunk, peers.rank)
        give(chunk, given, flight.counts)
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

    def sum_up(self, flight: Flight, codec, exact: bool) -> None:
        """Second stage: add up the parts of all nodes, and send the sum to all."""
        chunk, peers = flight.chunk, self.peers
        self.finish(flight.requests)
        mine = self.bounds(chunk, peers.rank)
        total = flight.total[mine]
        np.copyto(total, flight.given[mine])
        for part in flight.parts:
            np.add(total, part, out=total) if codec is None else codec.decode_add(part, total)
        if (scale := self.scale(chunk.vector)) != 1:
            np.multiply(total, self.dtype.type(scale), out=total)
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

    def arrive(self, flight: Flight, take: Callable, codec) -> None:
        """Third stage: the sums of all owners are there."""
        chunk = flight.chunk
        self.finish(flight.requests)
        if codec is not None:
            for part, node in zip(flight.parts, self.peers.others, strict=True):
                codec.decode(part, flight.total[self.bounds(chunk, node)])
        counts = flight.counts + flight.others.sum(axis=0, dtype=np.uint64)
        take(chunk, flight.given[: chunk.length], flight.total[: chunk.length], flight.counts, counts)
        self.taken += 1
        self.flying.pop(0)
        self.finish(flight.sends)
        for lent in flight.lent:
            self.spare[lent.size, lent.dtype].append(lent)
        flight.lent.clear()
        self.free.append(flight)

    def finish(self, requests: list) -> None:
        self.peers.wait(requests)
        requests.clear()

    def send(self, data: np.ndarray, plain: int, node: int, tag: int):
        self.bytes_sent += data.nbytes
        self.bytes_plain += plain or data.nbytes
        return self.peers.comm.Isend(data, node, tag)

    def encode(self, codec, values: np.ndarray, residual: np.ndarray | None, flight: Flight) -> np.ndarray:
        out = self.room(codec, values.size, flight)
        codec.encode(values, out, residual)
        return out

    def held_of(self, chunk: Chunk, size: int) -> np.ndarray:
        if chunk not in self.held:
            self.held[chunk] = np.zeros(size, self.dtype)
        return self.held[chunk]

    def room(self, codec, elements: int, flight: Flight) -> np.ndarray:
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
