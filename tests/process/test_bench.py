"""The benchmark suite itself: it verifies before it times, measures in turn, and reports what it could not measure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.harness.case import RULES, Case
from bench.harness.crew import Crew
from bench.harness.figure import Figure, Goal
from bench.harness.kept import Kept
from bench.harness.peer import Peer
from bench.subjects.flat import Flat, bytes_per_parameter
from dkcore.center import Center
from dkcore.engine.compile import compile_kernel
from dkcore.rules import REGISTRY

ROOT = Path(__file__).parents[2]
PLANTED = """
import pytest
from bench.harness.case import Case

def cases(quick):
    return [Case("good/one"), Case("wrong/one"), Case("absent/peer"), Case("silent/one")]

def bench_planted(case, turns, quick):
    name = case.question
    if name == "absent":
        pytest.skip("peer is not installed: pip install peer")

    def side():
        print("RAN", name)
        return 2.0

    def verify():
        assert name != "wrong", "1 + 1 is not 3"

    seconds = turns({"ours": side, "theirs": side}, rounds=3, verify=verify)
    if name != "silent":
        turns.figure(case.keys[0], seconds["theirs"] / seconds["ours"], note="quick" if quick else "")
"""

PEER = """
import os
from bench.harness.peer import serve

class Subject:
    def twice(self, number):
        print("this is no answer")
        return 2 * number

    def refuse(self):
        raise ValueError("not today")

    def vanish(self):
        print("last words", flush=True)
        os._exit(3)

    def close(self):
        open(os.environ["PLACE"], "w").close()

serve(Subject())
"""


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[subprocess.CompletedProcess, dict]:
    folder = tmp_path_factory.mktemp("planted")
    (folder / "bench_planted.py").write_text(PLANTED)
    options = ["-c", str(ROOT / "bench" / "pytest.ini"), "-p", "bench.conftest", "--benchmark-only", "--quick", "-s"]
    figures, statistics = folder / "figures.json", folder / "statistics.json"
    done = run("pytest", *options, f"--rootdir={folder}", f"--json={figures}", f"--benchmark-json={statistics}", str(folder))
    return done, json.loads(figures.read_text()) | {"statistics": json.loads(statistics.read_text())}


def test_a_case_gives_its_figure(planted):
    done, found = planted
    assert found["good/one"] == 1
    assert found["spread/good/one"] == 0
    assert found["note/good/one"] == "quick"
    assert "good/one" in done.stdout


def test_pytest_benchmark_gets_the_seconds_that_the_sides_return(planted):
    _, found = planted
    measured = {item["param"]: item["stats"] for item in found["statistics"]["benchmarks"]}
    assert measured["good/one"]["median"] == 2
    assert measured["good/one"]["rounds"] == 3


def test_a_case_whose_verification_fails_is_not_timed_and_fails_the_run(planted):
    done, found = planted
    assert done.returncode == 1
    assert "wrong/one" not in found
    assert "1 + 1 is not 3" in found["failed/wrong/one"]
    assert "RAN good" in done.stdout
    assert "RAN wrong" not in done.stdout


def test_a_peer_that_is_absent_is_reported_with_the_reason(planted):
    done, found = planted
    assert found["absent/absent/peer"] == "peer is not installed: pip install peer"
    assert "peer is not installed" in done.stdout


def test_a_case_that_ends_without_its_figure_fails(planted):
    _, found = planted
    assert "failed/silent/one" in found
    assert "silent/one" not in found


def test_quick_run_of_a_subset_writes_its_keys_and_the_machine(tmp_path):
    done = run("bench", "--quick", "--only", "exchange_us/1000/single", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())
    assert {key for key in found if key.startswith("exchange")} == {"exchange_us/1000/single", "exchange_us/1000/single/prepared"}
    assert 0 < found["exchange_us/1000/single/prepared"] < found["exchange_us/1000/single"] < 1000
    assert {"machine/processor", "machine/cores", "version/numpy", "commit", "spread/exchange_us/1000/single"} <= found.keys()


def test_every_question_of_the_issue_has_its_key():
    done = run("pytest", "bench", "-c", "bench/pytest.ini", "--rootdir=bench", "--collect-only", "-q")
    wanted = ["exchange_us/1000", "vs_dist_keras/4798010/2workers", "vs_dist_keras/1000000/2workers", "replica_vs_flat/tensorflow/4798010"]
    wanted += ["replica_us/tensorflow/200variables", "exchange_share/demo", "import_s/dkcore", "memory/bytes_per_parameter_per_worker"]
    wanted += [f"exchange_vs_unlocked/{rule}/67108864/{workers}workers" for rule in RULES for workers in (1, 2)]
    wanted += [f"numba_vs_c/{rule}" for rule in RULES]
    wanted += [f"codec_gbps/{codec}/{work}" for codec in ("none", "bf16", "fp16", "int8", "topk:0.01") for work in ("encode", "decode_add")]
    assert [key for key in wanted if f"[{key}]" not in done.stdout] == []


def test_goals_are_looked_up_by_key_and_judge():
    assert Figure("exchange_vs_unlocked/adag/1/1workers", 0.95).verdict == "pass"
    assert Figure("exchange_vs_unlocked/adag/1/1workers", 0.85, spread=0.5).verdict == "miss noisy"
    assert Figure("exchange_us/1000", 1.9).verdict == "pass"
    assert Figure("no_goal/at/all", 1).verdict == ""
    assert str(Goal(at_most=3)) == "<= 3"


def test_a_figure_is_the_median_and_the_spread_is_that_of_the_quartiles():
    figure = Figure.of("key", [1, 2, 4, 6, 100])
    assert figure.value == 4
    assert figure.spread == 1


def test_patterns_match_any_key_of_a_case():
    case = Case("vs_peer/1000000/2workers", "memory/peer")
    assert [case.matches(pattern) for pattern in ("vs_peer", "1000000/*", "memory", "vs_*workers", "other")] == [True] * 4 + [False]


def test_bytes_of_an_exchange_count_what_is_read_and_written():
    assert bytes_per_parameter(REGISTRY["adag"]) == 24
    assert bytes_per_parameter(REGISTRY["aeasgd"]) == 16
    assert bytes_per_parameter(REGISTRY["adagrad"]) == 32


class Clerk:
    """A subject."""

    def __init__(self, index: int, workers: int, base: int) -> None:
        self.number = base + index
        self.core = os.sched_getaffinity(0)

    def tell(self, plus: int = 0) -> int:
        return self.number + plus

    def cores(self) -> set[int]:
        return self.core

    def fail(self) -> None:
        assert self.number < 0, "a number that is too large"


def test_a_crew_works_in_processes_of_its_own_and_ends_with_the_context():
    with Crew(2, "tests.process.test_bench:Clerk", 40) as crew, Crew(1, "tests.process.test_bench:Clerk", 7, cores="all") as other:
        assert crew.ask("tell", 1) == [41, 42]
        for _ in range(3):  # in turn: the gate of one crew is not that of the other
            assert 0 < crew.seconds("tell", 10) < 10
            assert 0 < other.seconds("tell") < 10
        assert all(len(cores) == 1 for cores in crew.ask("cores"))
        assert other.ask("cores") == [os.sched_getaffinity(0)]
        processes = [process for process, _ in crew.members]
    assert not any(process.is_alive() for process in processes)


def test_what_fails_in_a_worker_fails_here():
    with Crew(1, "tests.process.test_bench:Clerk", 1) as crew, pytest.raises(AssertionError, match="a number that is too large"):
        crew.ask("fail")
    with pytest.raises(RuntimeError, match="no_such_module"):
        Crew(1, "no_such_module:Clerk")


def test_a_kernel_that_computes_something_else_is_found():
    with Center.create(np.ones(100_000, np.float32)) as center:
        flat = Flat(0, 1, [center.name])
        flat.choose("adag", None)
        flat.verify()
        flat.calls = flat.prepare(REGISTRY["adag"], compile_kernel(REGISTRY["dynsgd"], np.float32))
        with pytest.raises(AssertionError, match="of adag differs from its formula"):
            flat.verify()
        flat.close()


def test_the_loop_without_locks_computes_the_same():
    with Center.create(np.ones(100_001, np.float32)) as center:
        flat = Flat(1, 2, [center.name])  # the second worker begins in the middle, as in the engine
        flat.choose("adag", None)
        flat.w[0][:], flat.p[0][:] = 13, 1
        flat.unlocked()
        assert np.all(center.snapshot() == 2)
        assert np.all(flat.w[0] == 2)
        flat.close()


def test_only_the_last_expensive_thing_is_kept():
    closed = []
    with Kept() as kept:
        for key in "aab":
            kept.get(key, lambda stack, key=key: stack.callback(closed.append, key))
        assert closed == ["a"]
    assert closed == ["a", "b"]


def test_a_peer_answers_and_tells_why_it_cannot(tmp_path):
    (tmp_path / "planted_peer.py").write_text(PEER)
    environment = {"PYTHONPATH": str(tmp_path), "PLACE": str(tmp_path / "closed")}
    with Peer(sys.executable, "planted_peer", environment) as peer:
        assert peer.ask("twice", number=21) == 42
        with pytest.raises(RuntimeError, match="(?s)asked to refuse: ValueError: not today.*this is no answer"):
            peer.ask("refuse")
        assert peer.ask("twice", number=1) == 2
    assert peer.process.returncode == 0 and (tmp_path / "closed").exists()
    with Peer(sys.executable, "planted_peer", environment) as peer, pytest.raises(RuntimeError, match="(?s)exit code 3.*last words"):
        peer.ask("vanish")
