"""Who ends, closes or never comes: in every order the others finish, or all are told why not."""

import itertools
import os
from collections import deque

import numpy as np
import pytest
from mpi_ranks import KINDS, python, write_script

import dkcore as dk
from dkcore.merge.barriers import Membership
from dkcore.merge.membership import LEFT, TRAINING, are_over, end_phase, state_of

# ---------------------------------------------------------------------- every order, of the real numbers in a real segment


class World:
    """A rank of a world that is this process alone."""

    def __init__(self, rank: int, size: int):
        self.node_rank, self.node_size, self.nodes = rank, size, 1


PROGRAMS = [("finish", "finish", "leave"), ("finish", "leave"), ("leave",), ("leave", "leave")]


@pytest.mark.parametrize("ranks", [2, 3])
def test_in_every_order_nobody_waits_for_who_has_left(ranks):
    """Each rank runs a program; between any two of its steps the others may run any of theirs."""
    for programs in itertools.combinations_with_replacement(PROGRAMS, ranks):
        for order in orders(tuple(map(len, programs))):
            with dk.Center.create(np.zeros(1, np.float32)) as center:
                memberships = [Membership(center, World(rank, ranks), None, None) for rank in range(ranks)]
                run(memberships, programs, order, center.segment)


def orders(left: tuple[int, ...]):
    """All orders of turns, so many for each rank."""
    if not any(left):
        yield ()
    for rank in filter(left.__getitem__, range(len(left))):
        yield from ((rank, *rest) for rest in orders(tuple(turns - (rank == other) for other, turns in enumerate(left))))


def run(memberships, programs, order, segment) -> None:
    """Take the steps in that order; a rank that waits in finish gives its turns back until it may go on."""
    todo, waiting, turns = [deque(steps) for steps in programs], {}, deque(order)
    idle = 0
    while turns:
        rank = turns.popleft()
        membership = memberships[rank]
        if rank in waiting:
            slowest = segment.await_phase(*membership.deciders, waiting[rank], 0.0)
            may = all(
                other == rank or memberships[other].left or memberships[other].phase >= waiting[rank] for other in range(len(memberships))
            )
            assert (slowest >= waiting[rank]) == may, (programs, order)
            if not may:
                turns.append(rank)
                idle += 1
                assert idle <= len(turns), f"all wait: {programs} in {order}"
                continue
            del waiting[rank]
        idle = 0
        if todo[rank].popleft() == "leave":
            membership.leave()
        else:
            membership.phase += 1
            segment.reach(membership.place, membership.phase)
            waiting[rank] = membership.phase
    for rank, phase in waiting.items():
        assert segment.await_phase(*memberships[rank].deciders, phase, 0.0) >= phase


# ---------------------------------------------------------------------- every order, of nodes that merge: a small model


def steps(state):
    """All states that may follow one: a rank takes a step, or all leaders a round. state: of each rank its phase and what is
    left of its program; of the world how many phases are over, and whether its threads have ended."""
    ranks, over, ended = state
    for node, place in ((node, place) for node, members in enumerate(ranks) for place in range(len(members))):
        phase, todo = ranks[node][place]
        if not todo or (phase != LEFT and phase > over):  # through, or waiting in finish
            continue
        moved = [list(members) for members in ranks]
        moved[node][place] = (LEFT if todo[0] == "leave" else phase + 1, todo[1:])
        yield tuple(map(tuple, moved)), over, ended
    states = [state_of(min(phase for phase, _ in members), over) for members in ranks]
    if not ended and any(told != TRAINING for told in states):
        if are_over(states):
            yield ranks, over, True
        elif end_phase(states):
            yield ranks, over + 1, False


@pytest.mark.parametrize("nodes", [(1, 1), (2, 1), (1, 2), (2, 2), (1, 1, 1)])
def test_in_every_order_of_several_nodes_all_come_to_their_end(nodes):
    programs = PROGRAMS[:3]
    for chosen in itertools.product(programs, repeat=sum(nodes)):
        each = iter(chosen)
        first = (tuple(tuple((0, next(each)) for _ in range(size)) for size in nodes), 0, False)
        seen, front = {first}, [first]
        while front:
            state = front.pop()
            following = list(steps(state))
            if not following:  # nothing can happen any more: then nobody waits
                ranks, _, ended = state
                assert ended, (chosen, state)
                assert all(not todo for members in ranks for _, todo in members), (chosen, state)
            for state in following:
                if state not in seen:
                    seen.add(state)
                    front.append(state)


# ---------------------------------------------------------------------- real ranks

HEAD = r"""
import numpy as np
def center(size=1000, **settings): return dk.Center.of(np.zeros(size, np.float32), world, **settings)
def say(*words): os.write(1, (" ".join(map(str, words)) + "\n").encode())  # at once: mpiexec tears lines
who, how = int(sys.argv[1]), sys.argv[2]
"""
EARLY = (
    HEAD
    + """
import contextlib
mine = center()
if world.rank == who:
    if how == "exit": sys.exit(0)
    if how == "code": sys.exit(3)
    if how == "drop": del mine
    if how == "close": mine.close()
    if how == "caught":
        with contextlib.suppress(KeyError), mine: raise KeyError
    if how == "with":
        with mine: sys.exit(0)
    if how == "os._exit": os._exit(0)
    if how in ("drop", "close", "caught"): world.comm.Barrier()
else:
    if how in ("drop", "close", "caught"): world.comm.Barrier()
    w = mine.snapshot()
    mine.exchange(dk.rules.downpour, w + 1, w)
    mine.finish()
    say(f"{world.rank} finished with {mine.snapshot()[0]:g}")
"""
)
NEVER = (
    HEAD
    + """
first = center() if how == "once" else None
if world.rank == who: sys.exit(0)
center()
"""
)


def start(kind: str, folder, body: str, *arguments: object, nodes=None):
    script = write_script(folder, body)
    if nodes is not None:
        return nodes.run(kind, script, *map(str, arguments), ranks_per_node=2, ranks=3)
    return python(kind, script, *map(str, arguments), ranks=3)


def check_finished(ended, who: int, code: int = 0) -> None:
    others = [rank for rank in range(3) if rank != who]
    told = "".join(sorted(line + "\n" for line in ended.stdout.splitlines()))
    assert told == "".join(f"{rank} finished with 2\n" for rank in others), ended.stdout + ended.stderr
    assert ended.returncode == code, ended.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("who", "how"), [(0, "exit"), (1, "code"), (0, "close"), (1, "drop"), (0, "caught"), (0, "with")])
def test_the_others_finish_though_one_leaves_early(kind, who, how, tmp_path):
    check_finished(start(kind, tmp_path, EARLY, who, how), who, 3 if how == "code" else 0)


@pytest.mark.parametrize(
    ("kind", "who", "how"), [("mpich", 0, "exit"), ("openmpi", 0, "close"), ("mpich", 2, "caught"), ("mpich", 0, "drop")]
)
def test_the_others_finish_on_two_nodes(kind, who, how, two_nodes, tmp_path):
    ended = start(kind, tmp_path, EARLY, who, how, nodes=two_nodes)
    check_finished(ended, who)
    assert "UCX" not in ended.stderr
    two_nodes.gone()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("who", "how"), [(0, "never"), (1, "once")])
def test_who_never_comes_is_named(kind, who, how, tmp_path):
    ended = start(kind, tmp_path, NEVER, who, how)
    assert ended.returncode == 1
    assert f"Expected every rank at Center.of. Received: the end of rank {who} without it." in ended.stderr


@pytest.mark.parametrize(("who", "how"), [(2, "never"), (0, "once")])
def test_who_never_comes_is_named_on_another_node(who, how, two_nodes, tmp_path):
    ended = start("mpich", tmp_path, NEVER, who, how, nodes=two_nodes)
    assert ended.returncode == 1
    assert f"the end of rank {who} without it." in ended.stderr
    two_nodes.gone()


def test_an_exit_at_once_is_told(tmp_path):
    ended = start("mpich", tmp_path, EARLY, 0, "os._exit")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Error: rank 0 on {os.uname().nodename}: process ")
    assert "called os._exit(0)" in ended.stderr


STEPS = (
    HEAD
    + """
import dkcore.merge.join, dkcore.merge.barriers
def fail(*arguments, **settings): raise dk.errors.NoRoomError("no room for this step")
place = {"create": (dk.Center, "create"), "attach": (dk.Center, "attach"), "merge": (dkcore.merge.barriers, "Merge"),
         "values": (dkcore.merge.join, "start_for"), "model": (dkcore.merge.join, "replica_of")}
for step in how.split(","):
    there, name = place[step]
    kept = getattr(there, name)
    if world.rank == who: setattr(there, name, fail)
    try: center(rule=dk.rules.averaging)
    except dk.errors.DkcoreError as error: say(world.rank, step, "no room for this step" in str(error))
    setattr(there, name, kept if isinstance(kept, type) or step not in ("create", "attach") else classmethod(kept.__func__))
    world.comm.Barrier()
center(rule=dk.rules.averaging).finish()
say(world.rank, "works")
"""
)


@pytest.mark.parametrize(("who", "at"), [(0, "model,values,create,merge"), (1, "model,attach")])
def test_all_raise_when_a_step_fails_on_one(who, at, tmp_path):
    before = set(os.listdir("/dev/shm"))
    ended = start("mpich", tmp_path, STEPS, who, at)
    assert ended.returncode == 0, ended.stderr
    wanted = {f"{rank} {step} True" for rank in range(3) for step in at.split(",")} | {f"{rank} works" for rank in range(3)}
    assert set(ended.stdout.splitlines()) == wanted
    assert set(os.listdir("/dev/shm")) == before


def test_a_step_that_fails_on_one_node_is_told_to_the_others(two_nodes, tmp_path):
    ended = start("mpich", tmp_path, STEPS, 2, "create,merge", nodes=two_nodes)
    assert ended.returncode == 0, ended.stderr
    assert set(ended.stdout.splitlines()) == {f"{r} {s}" for r in range(3) for s in ("create True", "merge True", "works")}
    two_nodes.gone()


def test_thousands_of_centers(tmp_path):
    """MPICH has room for 2,000 communicators; and each center has one of its own."""
    body = HEAD + "for _ in range(2100): center(4, rule=dk.rules.averaging).close()\nsay(world.rank, len(world.closers))"
    script = write_script(tmp_path, body)
    ended = python("mpich", script, "0", "none", ranks=1, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "0 0\n"


def test_values_travel_in_pieces(tmp_path, two_nodes):
    body = (
        HEAD
        + """
from dkcore.ranks import transfer
transfer.PIECE = 1000
mine = np.arange(5000, dtype="f8") + world.rank
mine.setflags(write=False)
made = dk.Center.of(mine, world)
whole = transfer.gather(world.comm, mine[::2])
assert (made.snapshot() == np.arange(5000)).all()
assert whole is None or all((each == np.arange(5000)[::2] + rank).all() for rank, each in enumerate(whole))
say("whole")
"""
    )
    ended = two_nodes.run("mpich", write_script(tmp_path, body), "0", "none", ranks_per_node=1, ranks=2)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "whole\n" * 2
