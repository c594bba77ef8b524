"""Processes are told apart by more than their pids, and the reaper is there at once."""

import json
import os
import subprocess
import sys
import time

import pytest
from mpi_ranks import ROOT

from dkcore.ranks.processes import kill_marked
from dkcore.ranks.reaper import Plan
from dkcore.ranks.status import Status, StatusDirectory


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"], env={"OF_THE_TEST": str(os.getpid())}) as process:
        yield process
        process.kill()


def test_a_rank_s_process_is_held_until_it_ends(sleeper):
    status = Status(0, 1, pid=sleeper.pid)
    with status.process() as process:
        assert not process.ended()
        sleeper.kill()
        assert process.ended(within=10)
        sleeper.wait()
        process.send(9)  # to nobody, though another process may have the pid by now
    assert status.process() is None


@pytest.mark.parametrize("other", [{"machine": "another"}, {"birth": 1}])
def test_a_pid_that_means_another_process_is_not_taken_for_the_rank_s(other, sleeper):
    assert Status(0, 1, **{"pid": sleeper.pid, **other}).process() is None


def test_those_that_bear_a_mark_are_killed(sleeper):
    assert kill_marked(b"OF_THE_TEST=0") is None
    assert kill_marked(f"OF_THE_TEST={os.getpid()}".encode()) == set()
    assert sleeper.wait(10) == -9
    assert kill_marked(f"OF_THE_TEST={os.getpid()}".encode()) is None


def test_a_reaper_imports_the_standard_library_and_four_files_of_ours():
    code = f"import sys; sys.path.append({str(ROOT)!r}); import dkcore.ranks.reaper; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    foreign = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names and name != "__main__"}
    ours = {f"dkcore.ranks.{name}" for name in ("processes", "reaper", "shm", "status")}
    assert foreign == {"dkcore", "dkcore.version", "dkcore.ranks", *ours}


@pytest.mark.parametrize("launcher", [True, False])
def test_a_reaper_run_by_its_path_leaves_word_of_its_command_s_end(launcher, tmp_path):
    """On this host for the launcher, who started it; on another host of a proxy that was killed."""
    status, scratch = StatusDirectory(tmp_path), tmp_path / "scratch"
    status.path.mkdir()
    scratch.mkdir()
    kill = ["sh", "-c", 'test "$DKCORE_LAUNCH" = "a mark" && kill -9 $$']
    plan = Plan(kill, str(tmp_path), "a mark", str(scratch), launcher=os.getpid() if launcher else None, host="there", since=time.time())
    assert Plan(**json.loads(plan.reaper()[-1])) == plan
    with subprocess.Popen(plan.reaper(), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as reaper:  # where an ssh agent sends bytes
        assert (reaper.wait(30), reaper.stderr.read()) == (137, b"")
    assert (status.exit_code, status.lost_connections()) == ((-9, {}) if launcher else (None, {"there": 137}))
    assert not scratch.exists() and not status.has_reapers()
