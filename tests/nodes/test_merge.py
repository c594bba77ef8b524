"""The merge of the centers of several nodes: what workers do anywhere arrives everywhere, once, whatever happens meanwhile."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import KINDS, environment, python, write_script
from network import Network

import dkcore as dk
from dkcore.formula.additive import adds_up
from dkcore.merge.settings import Merging
from dkcore.training.job import Job

RANK = str(Path(__file__).with_name("merge_rank.py"))
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
LATE = "merge_every=1000000"  # nodes merge when one of them has finished, and not before


def run(network: Network, kind: str, out: Path, cases: dict[str, str], ranks_per_node: int = 2, timeout: float = 200) -> dict[str, list]:
    """Run cases one after another in one job; what each rank told of each."""
    words = " + ".join(f"{case} name={name}" for name, case in cases.items()).split()
    done = network.run(kind, RANK, str(out), *words, ranks_per_node=ranks_per_node, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert network.gone() < 2
    told = [told_by(out, rank) for rank in range(ranks_per_node * len(network.nodes))]
    assert all(list(each) == list(cases) for each in told), "a rank told nothing of a case"
    return {name: [each[name] for each in told] for name in cases}


def told_by(out: Path, rank: int) -> dict[str, dict]:
    return {told["name"]: told for told in map(json.loads, (out / f"told-{rank}").read_text().splitlines())}


@pytest.fixture(scope="module")
def jobs(two_nodes, three_nodes, tmp_path_factory):
    """``jobs(kind, nodes)``: what ranks told of `CASES`; each job runs once."""
    ended = {}

    def job(kind: str, nodes: int) -> dict[str, list]:
        if (kind, nodes) not in ended:
            network = two_nodes if nodes == 2 else three_nodes
            cases, ranks_per_node = CASES[kind, nodes], 2 if nodes == 2 else 1
            ended[kind, nodes] = run(network, kind, tmp_path_factory.mktemp("job"), cases, ranks_per_node)
        return ended[kind, nodes]

    return job


# ---------------------------------------------------------------------- the end of it

GOODBYE = """
from mpi4py import MPI
from dkcore.merge.leaders import Peers
peers = Peers(world.comm.Dup(), ["first", "second"], timeout=1.0)
if world.rank == 0:
    waited = time.monotonic() + 1.5  # longer than anybody may be silent who is still expected
    while time.monotonic() < waited:
        peers.poll_heartbeats()
        time.sleep(0.01)
peers.close([])
os.write(1, f"{world.rank} {'heard' if peers.comm == MPI.COMM_NULL else 'did not hear'} the other\\n".encode())
"""


@EACH_KIND
def test_a_goodbye_is_heard_that_comes_while_another_leader_still_waits(kind, tmp_path):
    """A leader that missed it waited for it at the end of the job, for as long as anybody may be silent."""
    ended = python(kind, write_script(tmp_path, GOODBYE))
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == ["0 heard the other", "1 heard the other"]


# ---------------------------------------------------------------------- every delta reaches every node once

PACES = {"auto": "", "every exchange": "merge_every=1", "20ms": "merge_every=20ms"}
EXACT = {f"{pace} {dtype}".replace(" ", "-"): f"3000 100 nap=0.001 dtype={dtype} {option}"
         for pace, option in PACES.items() for dtype in ("float32", "float64")}  # fmt: skip
EXACT |= {
    "one-node-has-much-more": "3000 40 uneven=10",
    "one-node-has-nothing": "3000 40 idle=1 nap=0.001",
    "one-node-has-nothing-and-merges-often": "3000 40 idle=1 nap=0.001 merge_every=1",
    "nobody-has-anything": "3000 0",
    "fewer-elements-than-nodes": "1 30 merge_every=1",
    "more-chunks-than-the-pipeline-is-deep": "600001 6 chunk=1 merge_every=1",
    "three-trainings": "3000 40 phases=3 nap=0.001 merge_every=1",
    "leaders-begin-late": "3000 20 late=0.3",
    "unknown-rule": "3000 40 given=0",
}
LOSSLESS = {  # of whole numbers. Parts of what a center of 70000 takes are sent, in each round but the last of a training
    "bf16": ("70000 40 merge_compression=bf16", 0.5),
    "fp16": ("70000 40 merge_compression=fp16", 0.5),
    "topk": ("70000 40 merge_compression=topk:0.01", 0.02),
    "topk-float64": ("70000 40 merge_compression=topk:0.01 dtype=float64", 0.015),
    "topk-of-one": ("1 40 merge_compression=topk:0.01", 2),
}
ROUNDED = {"int8": ("70000 40 merge_compression=int8", 0.25), "int8-phases": ("70000 20 phases=2 merge_compression=int8", 0.25)}
COMPRESSED = {name: f"{case} merge_every=1 nap=0.005" for name, (case, _) in (LOSSLESS | ROUNDED).items()}
STATES = {
    "squares": "3000 40 rule=adagrad dtype=float64 merge_every=1 nap=0.001",
    "squares-late": f"3000 40 rule=adagrad dtype=float64 {LATE} together=1",
    "momentum": f"3000 40 rule=heavy dtype=float64 {LATE} together=1",
    "momentum-often": "3000 40 rule=heavy dtype=float64 merge_every=1 nap=0.001",
}
POSITIONS = {
    "positions-late": f"3000 40 rule=aeasgd dtype=float64 {LATE} together=1",
    "positions-often": "3000 100 rule=aeasgd dtype=float64 merge_every=1 nap=0.002 place=1",
    "positions-told-by-the-callback": "3000 100 rule=aeasgd dtype=float64 merge_every=1 nap=0.002 place=1 given=0",
    "positions-told-by-nobody": "3000 100 rule=aeasgd dtype=float64 merge_every=1 nap=0.002 place=1 given=0 learn=0",
}
CASES = {(kind, nodes): EXACT for kind in KINDS for nodes in (2, 3)}
CASES["mpich", 2] = EXACT | COMPRESSED
CASES["mpich", 3] = EXACT | COMPRESSED | STATES | POSITIONS


@pytest.mark.parametrize("nodes", [2, 3])
@EACH_KIND
@pytest.mark.parametrize("case", EXACT)
def test_every_delta_reaches_every_node_once(jobs, kind, nodes, case):
    for told in jobs(kind, nodes)[case]:
        assert told["nodes"] == nodes and told["final"]
        assert told["equal"] and told["exact"], told["errors"]
        assert told["versions"] == [told["exchanges"]]


@EACH_KIND
def test_nodes_merge_at_the_pace_that_was_given(jobs, kind):
    """Each rank exchanges for a tenth of a second at least. How often they can merge in it is for the machine to say."""
    often, timed = (jobs(kind, 3)[f"{pace.replace(' ', '-')}-float64"][0] for pace in ("every exchange", "20ms"))
    assert often["merges before"] > 1
    assert 1 <= timed["merges before"] <= timed["elapsed"] / 0.02 + 1


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("case", COMPRESSED)
def test_what_compression_holds_back_comes_later_and_nothing_stays(jobs, nodes, case):
    for told in jobs("mpich", nodes)[case]:
        assert told["equal"] and told.get("held", 0) == 0  # only leaders hold anything
        assert told["versions"] == [told["exchanges"]]
        assert told["exact"] if case in LOSSLESS else told["errors"][0] < 1e-6


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("case", [name for name in COMPRESSED if name != "topk-of-one"])
def test_compression_sends_as_little_as_it_promises(jobs, nodes, case):
    told = jobs("mpich", nodes)[case][0]
    assert told["merges before"] > 5
    if "phases" not in case:  # their last round is among those before
        assert told["ratio"] == pytest.approx((LOSSLESS | ROUNDED)[case][1], rel=0.02)  # beside the numbers go versions
    assert told["bytes_sent"] / told["bytes_plain"] < told["ratio"] + 1 / told["merges before"]


# ---------------------------------------------------------------------- what a center is beside a sum


def test_squares_add_up_over_nodes(jobs):
    for case in ("squares", "squares-late"):
        for told in jobs("mpich", 3)[case]:
            assert told["equal"] and told["errors"][1] < 1e-12
    assert jobs("mpich", 3)["squares-late"][0]["errors"][0] < 1e-12  # the center's own sum, when no node heard of others before


def test_momentum_is_averaged_while_progress_adds_up(jobs):
    late, often = jobs("mpich", 3)["momentum"], jobs("mpich", 3)["momentum-often"]
    assert all(told["equal"] for told in late + often)
    assert max(max(told["errors"]) for told in late) < 1e-12


def test_positions_are_averaged(jobs):
    for told in jobs("mpich", 3)["positions-late"]:
        assert told["equal"] and told["errors"][0] < 1e-12


@pytest.mark.parametrize("case", [name for name in POSITIONS if name != "positions-late"])
def test_no_center_is_drawn_beyond_its_workers(jobs, case):
    """Workers that never move draw it, on three nodes at once, and merges between every two exchanges."""
    told = jobs("mpich", 3)[case]
    assert all(each["equal"] for each in told) and told[0]["merges"] > 20
    assert 0.5 < max(each["highest"] for each in told) <= 1


def heavy(c, w, p, v):
    """Momentum."""
    v = 0.5 * v + (w - p)
    return c + v, c + v, v


def drifting(c, w, p, v):
    """An average that follows, which names p and does without."""
    v = v + 0.1 * (w - v)
    return c + v, c + v, v


def counting(c, w, p, n):
    """How often."""
    return c + (w - p) / (n + 1), w, n + 1


def doubled(c, w, p, v):
    """It adds itself."""
    return c, w, v + v


def late(c, w, p, v):
    """Progress reaches the center by way of a state."""
    return c + v, w, 0.5 * v + (w - p)


def spent(c, w, p):
    """Only the worker looks at p."""
    return c + 0.5 * (w - c), p


def mixed(c, w, p, n, m):
    """Sums in pieces, of which one is taken away."""
    return c - (p - w), w, (n - p) + w + 1, w - m


def largest(c, w, m):
    """A maximum."""
    return c, w, np.where(np.abs(w) > m, np.abs(w), m)


def two(c, w, p, v, n):
    """One of each kind."""
    return c + (w - p), w, v * 0.9, (w - p) + n


def test_which_vectors_add_up_is_read_from_the_formula():
    added = {"aeasgd": [False], "independent": [False], "single": [False], "adagrad": [True, True]}
    for rule in dk.rules.REGISTRY.values():
        assert [adds_up(rule, vector) for vector in range(1 + len(rule.states))] == added.get(rule.name, [True])
    own = {heavy: [True, False], drifting: [False, False], counting: [True, True], doubled: [False, False], largest: [False, False]}
    own |= {two: [True, False, True], late: [True, False], spent: [False], mixed: [True, True, False]}
    for formula, wanted in own.items():
        rule = dk.rule(formula)
        assert [adds_up(rule, vector) for vector in range(1 + len(rule.states))] == wanted, rule.name


# ---------------------------------------------------------------------- the end of a training

ENDS = {
    "close": "3000 40 leave=close",
    "close-with-much-more": "3000 40 leave=close uneven=10",
    "rank-0-alone-finishes": "3000 40 leave=alone",
    "all-but-rank-0-finish": "3000 40 leave=others",
    "nothing": "3000 40 leave=nothing",
}


@EACH_KIND
def test_nodes_end_equal_however_their_ranks_leave(two_nodes, kind, tmp_path):
    ended = run(two_nodes, kind, tmp_path, ENDS)
    for case in list(ENDS)[:-1]:
        assert ended[case][0]["agreed"] and ended[case][2]["agreed"], case


COPY = """
import sys, types
import numpy as np
written = []
replica = lambda model: types.SimpleNamespace(write=written.append)
sys.modules["dkcore.replica.replica"] = types.SimpleNamespace(Replica=replica)
center = dk.Center.of(np.zeros(9, np.float32), world)
for training in (1, 2, 3):
    w, p = np.zeros(9, np.float32), np.zeros(9, np.float32)
    with center.worker() as worker:
        call = worker.call(dk.rules.downpour, p=p)
        worker.pull_call(p).flat(w)
        w += 1
        call.flat(w)
    try:
        center.copy_to("model")
    except dk.errors.MergeError as error:
        os.write(1, f"refused {error}\\n".encode())  # at once: the ranks' lines are not to mingle
    center.finish()
    time.sleep(0.1 * (world.rank == 0))  # the other one trains on at once
    center.copy_to("model")
    assert written.pop().tolist() == [world.size * training] * 9
center.close()
"""


def test_a_center_is_not_taken_before_it_is_final(two_nodes, tmp_path):
    done = two_nodes.run("mpich", write_script(tmp_path, COPY), ranks_per_node=1)
    assert done.returncode == 0, done.stderr
    refused = "refused Expected center.finish() on every rank before the center is taken. Received: none since the last training."
    assert done.stdout.count(refused) == 6


# ---------------------------------------------------------------------- what does not fit together

UNLIKE = {
    "size": r"array \(3000,\) on rank 0 and array \(3001,\) on rank 3",
    "dtype": "float32 on rank 0 and float64 on rank 3",
    "version": r"the same dkcore on every rank. Received: [0-9.]+ on rank 0 and 0\.0\.0 on rank 3",
    "byteorder": "the same byte order on every rank. Received: little on rank 0 and other on rank 3",
    "compression": "the same compression on every rank. Received: none on rank 0 and bf16 on rank 3",
    "rule": "the same rule on every rank. Received: downpour on rank 0 and heavy on rank 3",
}


@EACH_KIND
def test_ranks_that_differ_are_refused_everywhere_and_the_job_may_go_on(two_nodes, kind, tmp_path):
    ended = run(two_nodes, kind, tmp_path, {name: f"3000 40 odd={name}" for name in UNLIKE} | {"well": "3000 40"})
    for name, message in UNLIKE.items():
        assert all(re.search(message, told["error"]) for told in ended[name]), ended[name]
    assert all(told["exact"] for told in ended["well"])


@EACH_KIND
def test_workers_with_another_rule_on_another_node_are_found_while_they_train(faulty, kind):
    job = faulty(kind, "3000 forever nap=0.005 merge_every=1 odd=worker", ranks_per_node=1)
    errors = job.errors(2)
    assert re.match(r"Expected one rule on all nodes. Received: downpour\(\) on node0 \(rank 0\), adag\(\) on node1 \(rank 1\).", errors[0])
    assert set(errors) == set(errors[:1])
    assert job.end() != 0


@EACH_KIND
def test_an_mpi_without_threads_is_refused_on_every_rank(two_nodes, kind, tmp_path):
    told = run(two_nodes, kind, tmp_path, {"threads": "3000 40 odd=threads"}, ranks_per_node=1)["threads"]
    wanted = "MissingError Expected an MPI with MPI_THREAD_MULTIPLE. Received: MPI_THREAD_FUNNELED"
    assert all(each["error"].startswith(wanted) for each in told)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"merge_every": "often"}, "Expected merge_every as a number of exchanges, a time, or auto. Received: 'often'"),
        ({"merge_every": 0}, "Received: 0. Such as 100"),
        ({"merge_every": -1}, "Received: -1"),
        ({"merge_every": True}, "Received: True"),
        ({"merge_every": 0.5}, "Received: 0.5"),
        ({"merge_every": "5 minutes"}, "Received: '5 minutes'"),
        ({"merge_compression": "zip"}, "Expected a codec: none, bf16, fp16, int8, or topk:FRACTION"),
        ({"merge_compression": "topk"}, "Received: 'topk'"),
        ({"merge_compression": "topk:0"}, "Received: 'topk:0'"),
        ({"merge_timeout": 0}, "Expected a merge timeout of more than 0 s. Received: 0"),
        ({"merge_timeout": -1.0}, "Received: -1.0"),
        ({"merge_timeout": float("nan")}, "Received: nan"),
        ({"on_node_loss": "weep"}, "Expected on_node_loss of stop or shrink. Received: 'weep'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dk.Center.of(np.zeros(3), None, **settings)  # before anybody is asked
    with pytest.raises(ValueError, match=re.escape(message)):
        Job(**settings)


@pytest.mark.parametrize(
    ("every", "exchanges", "seconds"), [("auto", None, None), (7, 7, None), ("7", 7, None), ("0.5s", None, 0.5), ("50 ms", None, 0.05)]
)
def test_a_pace_is_a_number_or_a_time(every, exchanges, seconds):
    merging = Merging(every)
    assert (merging.exchanges, merging.seconds) == (exchanges, seconds)


# ---------------------------------------------------------------------- faults

TRAINING = "3000 forever nap=0.005 merge_every=5ms merge_timeout=3"
SILENT = "Expected a sign of life within 3 s. Received: none from node{node} (ranks {ranks}). Is its host up, and the link?"


class Faulty:
    """A job of merge_rank.py that something is going to happen to."""

    def __init__(self, network: Network, kind: str, out: Path, case: str, ranks_per_node: int = 2):
        self.network, self.out, self.ranks = network, out, ranks_per_node * len(network.nodes)
        command = [*network.command(kind, ranks_per_node), sys.executable, RANK, str(out), *case.split()]
        self.output = out / "output"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(network.nodes[0].command(*command), env=environment(kind), stdout=file, stderr=file)

    def wait_for(self, condition, seconds: float) -> float:
        """The seconds until it holds."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() < began + seconds, self.output.read_text()
            time.sleep(0.05)
        return time.monotonic() - began

    def begun(self) -> None:
        """All workers exchange."""
        self.wait_for(lambda: self.process.poll() is not None or len(list(self.out.glob("begun-*"))) == self.ranks, 30)
        assert self.process.poll() is None, self.output.read_text()

    def errors(self, ranks: int, within: float = 30) -> list[str]:
        """The errors of that many ranks, the first by number."""
        self.wait_for(lambda: len(list(self.out.glob("error-*"))) >= ranks, within)
        return [path.read_text() for path in sorted(self.out.glob("error-*"))[:ranks]]

    def rank_processes(self) -> list[str]:
        return [line for lines in self.network.processes().values() for line in lines if line.startswith(f"{sys.executable} {RANK}")]

    def signal(self, rank: int, number: int) -> None:
        pid = int((self.out / f"pid-{rank}").read_text())
        node = self.network.nodes[rank * len(self.network.nodes) // self.ranks]
        os.kill(node.outer(pid), number)

    def end(self, within: float = 15) -> int:
        """The exit code; nothing is left then."""
        code = self.process.wait(within)
        self.network.gone()
        return code


@pytest.fixture
def faulty(two_nodes, tmp_path):
    """``faulty(kind, case)`` starts a `Faulty`."""
    started = []

    def start(*arguments, **options) -> Faulty:
        started.append(Faulty(two_nodes, arguments[0], tmp_path, *arguments[1:], **options))
        return started[-1]

    yield start
    two_nodes.clear()
    two_nodes.mend(1)
    for each in started:
        each.process.wait(10)


@EACH_KIND
def test_a_cut_link_is_an_error_on_every_rank_that_names_who_fell_silent(faulty, two_nodes, kind):
    job = faulty(kind, TRAINING)
    job.begun()
    two_nodes.cut(1)
    errors = job.errors(4, within=10)
    wanted = [SILENT.format(node=node, ranks=ranks) for node, ranks in [(1, "2, 3"), (1, "2, 3"), (0, "0, 1"), (0, "0, 1")]]
    assert [error[: len(text)] for error, text in zip(errors, wanted, strict=True)] == wanted
    job.wait_for(lambda: not job.rank_processes(), 10)
    if kind == "mpich":  # Open MPI's mpirun waits for its other half, over the line that is cut
        assert job.end() != 0


@EACH_KIND
@pytest.mark.parametrize("rank", [2, 1], ids=["leader", "other"])
def test_a_killed_rank_ends_the_job_on_all_nodes(faulty, kind, rank):
    job = faulty(kind, TRAINING)
    job.begun()
    job.signal(rank, signal.SIGKILL)
    assert job.end() != 0


def test_a_leader_whose_process_stands_still_is_named(faulty):
    job = faulty("mpich", TRAINING)
    job.begun()
    job.signal(2, signal.SIGSTOP)
    assert all(error.startswith(SILENT.format(node=1, ranks="2, 3")) for error in job.errors(2, within=10))
    assert job.end() != 0


def test_a_leader_that_is_slow_is_not_taken_for_dead(two_nodes, tmp_path):
    """Its main thread sleeps longer than the timeout, while its merge says that it is there."""
    ended = run(two_nodes, "mpich", tmp_path, {"slow": "3000 40 merge_every=1 merge_timeout=1 doze=3"})
    assert all(told["exact"] for told in ended["slow"])
