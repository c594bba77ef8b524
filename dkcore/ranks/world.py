"""Who shares memory with whom: the ranks of a job, and the nodes that they form."""

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from dkcore.ranks.abort import abort, abort_on_uncaught, at_abort
from dkcore.ranks.cores import take_share
from dkcore.ranks.liveness import Liveness
from dkcore.ranks.mpi import check_size, load_mpi
from dkcore.ranks.processes import machine
from dkcore.ranks.requests import Requests
from dkcore.ranks.roll_call import Roll
from dkcore.ranks.shm import PREFIX, SHARED_MEMORY, locked_file, unlink_segments
from dkcore.ranks.signals import SignalHandlers

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from dkcore.arrays import Array

__all__ = ["Answering", "World", "init", "name_of"]

RANKS = f"{PREFIX}ranks-"
LINGER = 3.0  # seconds that a rank that ended goes on watching: MPI_Finalize waits for the others, and sees nothing
MAPPED_AT_INIT = ("mpich_shm_",)  # MPI's segments that no rank opens later; MPICH leaves them behind when a rank dies
PR_SET_PDEATHSIG = 1

opened: "World | None" = None


class Left(Protocol):
    """What a rank leaves when it ends: a `dkcore.merge.barriers.Membership`."""

    def leave(self) -> None: ...


class Answering(Protocol):
    """Roll calls: a `dkcore.ranks.roll_call.Roll`, or what stands for it. open: whether this rank waits for others, or gave up."""

    open: bool

    def call(self, what: str) -> None: ...
    def leave(self, tell: bool = True) -> None: ...


@dataclass
class World:
    """The ranks of a job, as one of them sees it. Made by `init`; a context manager.

    rank, size: in the job. node_rank, node_size: among the ranks that share memory. names: of the nodes, for messages, in the
    order of their first ranks. id: of the job, the same on all ranks. comm, node: the mpi4py communicators of both. leaders: that of the
    first ranks of all nodes, None elsewhere. memberships: at centers, which this rank leaves when it ends. requests: what ranks of this
    node ask of each other. cores: threads that are this rank's fair share of the node.
    """

    rank: int
    size: int
    node_rank: int
    node_size: int
    id: str
    cores: int
    comm: "Comm" = field(repr=False)
    node: "Comm" = field(repr=False)
    closers: list[Callable[[float], None]] = field(repr=False)
    names: list[str] = field(default_factory=lambda: [socket.gethostname()])
    liveness: Liveness | None = field(default=None, repr=False)
    tolerant: bool = False
    leaders: "Comm | None" = field(default=None, repr=False)
    roll: Answering | None = field(default=None, repr=False)
    memberships: WeakSet[Left] = field(default_factory=WeakSet, repr=False)
    requests: Requests = field(default_factory=Requests, repr=False)
    pid: int = field(default_factory=os.getpid, init=False, repr=False, compare=False)

    @property
    def nodes(self) -> int:
        """How many groups of ranks share memory."""
        return len(self.names)

    @property
    def leader(self) -> bool:
        """Whether this is the first rank of its node."""
        return self.node_rank == 0

    @property
    def over_mpi(self) -> bool:
        """Whether its communicators are mpi4py's."""
        return True

    @property
    def node_ranks(self) -> list[int]:
        """The ranks that share memory with this one, and itself."""
        return [self.rank] if self.liveness is None else self.liveness.ranks

    def shard(self, array: "Array") -> "Array":
        """This rank's part of an array: every ``size``-th row from ``rank`` on, a view. The parts cover each row once."""
        return array[self.rank :: self.size]

    def at_abort(self, function: Callable[[], None]) -> None:
        """Have ``function()`` called should the job be torn down; for what would outlive it."""
        at_abort(function)

    def at_death(self, function: Callable[[int, float], None]) -> None:
        """Have ``function(rank, time)`` called when another rank of this node died; time: when it was last seen alive.

        It is called in a thread of its own, possibly on every rank of the node, shortly before the job is torn down.
        """
        if self.liveness is not None:
            self.liveness.death_callbacks.append(function)

    def tolerate(self, function: Callable[[int], None]) -> None:
        """From now on the death of another rank does not end the job: ``function(rank)`` is called for those of this node.

        A node whose leader died is lost: its other ranks end. Needs an MPI that goes on, and at exit does without its end,
        which would wait for the dead.
        """
        self.tolerant = True
        if self.liveness is not None:
            self.liveness.tolerate = function

    def abort(self, code: int = 1, reason: str = "") -> None:
        """End the whole job at once: no rank returns from this, mpiexec exits with ``code``. reason: a sentence to print."""
        abort(code, f"rank {self.rank} on {socket.gethostname()}: {reason}" if reason else "")

    def at_close(self, function: Callable[[], None]) -> Callable[[], None]:
        """Have ``function()`` called when this rank ends well, while the others still are watched; what undoes this."""

        def closer(_linger: float) -> None:
            function()

        self.closers.insert(0, closer)
        return lambda: self.closers.remove(closer) if closer in self.closers else None

    def call_roll(self, what: str) -> None:
        """Return when all ranks have come to ``what``; RankError when one has ended instead. All ranks call it."""
        if self.roll is not None:
            self.roll.call(what)

    def close(self, linger: float = 0.0) -> None:
        """Say that this rank ended well: it is not watched any longer. Done at exit; harmless when repeated."""
        global opened
        if opened is self and os.getpid() == self.pid:  # a forked child is no rank
            opened = None
            self.end(linger)

    def end(self, linger: float) -> None:
        """The same, once."""
        for membership in list(self.memberships):  # all, before this rank waits for others at any of them
            membership.leave()
        if self.roll is not None:
            self.roll.leave(tell=not self.tolerant)  # the dead of a tolerant world would not take it
        for closer in list(self.closers):  # some take themselves out
            closer(linger)

    def __enter__(self) -> "World":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:  # a rank that leaves by an exception did not end well
            self.close()


def init() -> World:
    """Join the job that mpiexec started, all its ranks together; a plain ``python script.py`` is a job of one rank.

    Called again, it returns the same world. Call it before the framework starts its threads, for it keeps them to this
    rank's fair share of the cores. From then on an uncaught exception in any rank, or its death, ends the whole job.
    MissingError when mpi4py or the MPI library is missing, or is not the one that mpiexec belongs to.
    """
    global opened
    if opened is None:
        communicator = load_mpi().COMM_WORLD
        if communicator.size == 1:
            unlink_segments()  # Open MPI forgets them; nobody else will ever open them
        check_size(communicator.size)
        opened = join(communicator.Dup())
        atexit.register(leave, opened)
    return opened


def leave(world: World) -> None:
    """The end of a rank that ended well; the last of all functions at exit."""
    world.close(LINGER)
    unanswered = world.roll is not None and world.roll.open
    if (world.tolerant or unanswered) and world.size > 1 and os.getpid() == world.pid:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(unanswered))  # MPI_Finalize waits for ranks that died, or for calls that nobody answers


def join(comm: "Comm") -> World:
    """The world of a communicator; all its ranks call it."""
    if comm.size == 1:
        return World(0, 1, 0, 1, uuid.uuid4().hex[:12], take_share(comm), comm, comm, [], leaders=comm)
    # A proxy that is killed would leave its ranks orphaned.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    undo = abort_on_uncaught(comm.rank)
    token = comm.bcast(uuid.uuid4().hex[:12])
    with shared_file(comm, f"{RANKS}{token}-") as (node, path):
        signals = SignalHandlers(comm.rank, abort)
        liveness = Liveness(path, node.allgather(comm.rank), node.allgather(os.getpid()), node.rank, signals, abort)
        node.Barrier()  # all hold their lock, and all have mapped what MPI shares: the names have served
        unlink_segments(MAPPED_AT_INIT)
    liveness.start()
    closers = [liveness.end, lambda linger: undo()]
    names = names_of(comm, node)
    world = World(comm.rank, comm.size, node.rank, node.size, token, take_share(node), comm, node, closers, names, liveness)
    leaders, world.requests = comm.Split(0 if world.leader else load_mpi().UNDEFINED, comm.rank), Requests(liveness)
    world.leaders = leaders if world.leader else None
    firsts = set(comm.allgather(liveness.ranks[0])) - {liveness.ranks[0]}
    world.roll = Roll(comm.Dup(), liveness, sorted(firsts), world.leader)
    return world


def names_of(comm: "Comm", node: "Comm") -> list[str]:
    """What to call each node: its host and its ranks."""
    mine = node.allgather(comm.rank)
    everyone = dict(comm.allgather((mine[0], (socket.gethostname(), mine))))
    return [name_of(host, ranks) for _, (host, ranks) in sorted(everyone.items())]


def name_of(host: str, ranks: list[int]) -> str:
    """What to call a node."""
    return f"{host} (rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))})"


@contextlib.contextmanager
def shared_file(comm: "Comm", prefix: str) -> Iterator[tuple["Comm", str]]:
    """The communicator of the ranks that share memory with this one, and the path of a file that they share.

    Found by trial: each rank puts a file into shared memory and looks whose it can see. Neither the host's name nor
    COMM_TYPE_SHARED would do: under Spark each executor is a host of its own to MPI, and two containers of one name may
    share nothing. Those of another namespace of processes are another node: robust locks know their holders by thread ids.
    The files go away when the context ends.
    """
    own = os.path.join(SHARED_MEMORY, f"{prefix}{comm.rank}")
    with locked_file(own):
        comm.Barrier()
        seen = min(int(name.removeprefix(prefix)) for name in os.listdir(SHARED_MEMORY) if name.startswith(prefix))
        first = (places := comm.allgather((seen, machine()))).index(places[comm.rank])
        yield comm.Split(first, comm.rank), os.path.join(SHARED_MEMORY, f"{prefix}{first}")
