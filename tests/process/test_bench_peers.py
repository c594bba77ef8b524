"""The peers of the exchange: each proves its center before it is timed, none ends the run of the others, and nothing is left."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import KINDS, mpi_of

from bench.harness.crew import Crew
from bench.harness.peer import Peer
from bench.peers import __main__ as installer
from bench.peers import table
from bench.peers.numpy_lock import Numpy
from bench.peers.worker import shapes_of, views
from bench.questions import bench_peers
from bench.report.peer_times import OURS, peer_times

ROOT = Path(__file__).parents[2]
OF_THEIR_OWN = {"dist-keras", *table.ENVIRONMENTS}
WRONG = """
import multiprocessing, os
from bench.harness.peer import serve
from bench.peers.numpy_lock import Numpy, NumpyTeam

class Wrong(Numpy):
    def given(self, place):
        w, d, c = self.w[place], self.d[place], self.c[place]
        def run():
            w[:] = c + d
            c[:-1] = w[:-1]
        return run

class Vanishing(NumpyTeam):
    def run(self, count, given):
        os._exit(3)

if __name__ == "__main__":
    team, worker = (Vanishing, "bench.peers.numpy_lock:Numpy") if "VANISH" in os.environ else (NumpyTeam, "planted_peer:Wrong")
    serve(team.of(worker, multiprocessing.get_context("spawn").Lock()))
"""
PLANTED = """
import bench.questions.bench_peers as suite
from bench.questions.bench_peers import PEERS, bench_peers as bench_planted, cases, found, ours
from bench.peers import table
from bench.peers.table import Entry

here = {"PYTHONPATH": FOLDER}
PEERS.clear()
PEERS |= {
    "wrong": Entry("wrong", "planted_peer", environment=here),
    "gone": Entry("gone", "planted_peer", environment={**here, "VANISH": "1"}),
    "missing": Entry("missing", "planted_peer", package="ray"),
    "numpy": Entry("numpy", "bench.peers.numpy_lock"),
}
suite.SIZES = (7, 100)
table.absent = lambda package: "ray is not installed: PLANTED" if package == "ray" else None
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> dict:
    """The report of a run with a wrong peer, one that dies, one that is not there, and a good one."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "planted_peer.py").write_text(WRONG)
    (folder / "bench_planted.py").write_text(PLANTED.replace("FOLDER", repr(str(folder))))
    options = ["-c", str(ROOT / "bench" / "pytest.ini"), "-p", "bench.conftest", "--benchmark-only", f"--rootdir={folder}"]
    command = [sys.executable, "-m", "pytest", *options, f"--json={folder / 'figures.json'}", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return json.loads((folder / "figures.json").read_text())


def test_a_peer_whose_center_is_wrong_is_found_and_not_timed(planted):
    assert "what came back is not the center" in planted["failed/vs_wrong/7/1workers"]
    assert not any(key.startswith(("vs_wrong/", "peer_us/wrong/")) for key in planted)


def test_a_peer_that_is_absent_is_reported_with_the_reason(planted):
    assert planted["absent/vs_missing/100/2workers"] == "ray is not installed: PLANTED"
    assert planted["absent/peer_us/missing/7/1workers"] == "ray is not installed: PLANTED"


def test_a_peer_that_dies_does_not_end_the_run(planted):
    assert "exit code 3" in planted["failed/vs_gone/7/1workers"]
    assert planted["absent/vs_gone/7/2workers"] == "gone failed at vs_gone/7/1workers"
    assert all(planted[f"vs_numpy/{size}/{workers}workers"] > 0 for size in (7, 100) for workers in (1, 2))


def test_the_best_peer_is_named_and_ours_has_its_times(planted):
    assert planted["note/vs_best_peer/100/2workers"] == "numpy, of 1 peers"
    assert planted["vs_best_peer/100/2workers"] == planted["vs_numpy/100/2workers"]
    assert list(peer_times(planted, workers=1)) == [OURS, "numpy"]


def test_a_center_that_lost_something_is_found_at_the_end(tmp_path):
    center = np.memmap(tmp_path / "center", np.float32, "w+", shape=(2, 50_000))
    worker = Numpy(0, 1, threading.Lock())
    worker.prepare(50_000, 1, 2, str(tmp_path / "center"))
    worker.learn(2, False, 3)
    worker.learn(1, True, 3)
    worker.prove(3)
    center[1, 12_345] -= 1
    with pytest.raises(AssertionError, match="the center is not the sum of what was exchanged"):
        worker.prove(3)
    worker.close()


def processes_with(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append((path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone meanwhile, or none of ours
            continue
    return found


def in_our_environment() -> dict[str, list[table.Entry]]:
    """Peers, and ours, by what serves them."""
    served = {}
    for entry in [table.OURS, *table.PEERS.values()]:
        if entry.package not in OF_THEIR_OWN:
            name = entry.package if entry.module.endswith("mpi") else entry.module.removeprefix("bench.peers.")
            served.setdefault(name, []).append(entry)
    return served


@pytest.mark.parametrize("name", in_our_environment())
def test_a_peer_proves_itself_and_is_timed_and_nothing_is_left(name, tmp_path):
    entries = in_our_environment()[name]
    if name in KINDS:
        mpi_of(name)
    if reason := entries[0].absent():
        pytest.skip(reason)
    shared = set(os.listdir("/dev/shm"))
    mark = f"DKCORE_TEST={tmp_path}"
    environment = entries[0].environment | {"DKCORE_TEST": str(tmp_path), "TMPDIR": str(tmp_path)}
    with Peer(sys.executable, entries[0].module, environment, patience=60, prefix=entries[0].prefix) as peer:
        for entry in entries:
            for workers in (2, 1):
                peer.ask("prepare", size=1001, workers=workers, sets=2 if entry.rotates else 1, variant=entry.variant)
                assert all(seconds > 0 for seconds in peer.ask("verify"))
                for given in (False, True):
                    assert np.shape(peer.ask("run", count=5, given=given)) == (workers, 5)
        assert processes_with(mark)
        apart = os.readlink(f"/proc/{peer.process.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        assert apart == entries[0].alone
    assert peer.process.returncode == 0
    patience = time.monotonic() + 10
    while processes_with(mark) and time.monotonic() < patience:  # multiprocessing's own helper ends a little later
        time.sleep(0.05)
    assert processes_with(mark) == []
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/dev/shm")) == shared


def test_every_peer_has_its_times_at_every_size_where_a_plot_looks_for_them():
    keys = [key for case in bench_peers.cases(quick=False) for key in case.keys]
    assert len(keys) == len(set(keys))
    for kind in ("", "mean", "delta"):
        times = peer_times(dict.fromkeys(keys, 1.0), workers=1, kind=kind)
        assert set(times) == {OURS, *table.PEERS}
        assert all(tuple(found) == bench_peers.SIZES for found in times.values())


def test_who_asks_for_the_best_peer_gets_all_of_them():
    wanted = [case for case in bench_peers.cases(quick=True) if case.matches("vs_best_peer")]
    assert len(wanted) == len(table.PEERS) + 1


def test_a_peer_of_its_own_environment_is_absent_without_it(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "BUILD", tmp_path)
    assert table.absent_of("ray", tmp_path / "ray") == "ray is not installed: python -m bench.peers ray"
    (tmp_path / "ray" / "bin").mkdir(parents=True)
    (tmp_path / "ray" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "ray" / "install.log").write_text("Collecting\nERROR: no space\n\n")
    assert table.absent_of("no_such_package", tmp_path / "ray") == (
        "no_such_package was not installed: ERROR: no space (all of it in build/ray/install.log)"
    )


def test_what_is_there_is_not_installed_again(monkeypatch):
    monkeypatch.setattr(installer, "absent", type("There", (), {"__call__": lambda *_: None, "cache_clear": lambda *_: None})())
    monkeypatch.setattr(subprocess, "run", None)
    assert [installer.install(package) for package in installer.REQUIREMENTS] == [None] * len(OF_THEIR_OWN)
    assert set(installer.REQUIREMENTS) == OF_THEIR_OWN


def test_weights_of_a_perceptron_are_views_of_the_flat_vector():
    for size in (7, 1000, 1001, 4_798_010):
        assert sum(int(np.prod(shape)) for shape in shapes_of(size)) == size
    vector = np.zeros(1000, np.float32)
    for part in views(vector):
        part += 1
    assert np.all(vector == 1)


def test_a_crew_does_together_what_none_could_do_alone():
    with Crew(2, "tests.process.test_bench_peers:Meeter") as crew:
        assert crew.together("meet", 3) == [(0, 3), (1, 3)]
        with pytest.raises(AssertionError, match="the second has failed"):  # and not only once the first is through
            crew.together("fail")
        crew.members[0][0].kill()


class Meeter:
    """A subject of a crew."""

    def __init__(self, index: int, members: int) -> None:
        self.index = index

    def meet(self, number: int) -> tuple[int, int]:
        return self.index, number

    def fail(self) -> None:
        assert self.index == 0, "the second has failed"
        time.sleep(60)
