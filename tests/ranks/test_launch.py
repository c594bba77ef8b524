"""launch: every way in which a job can end, each once, with what the caller is told, and that nothing is left."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from mpi_ranks import KINDS, Traces, mpi_of, write_script

from dkcore.errors import MissingError, RankError
from dkcore.launch.launch import importable, launch

WAIT = "world.comm.Barrier()\n"
WELL = "print('out', world.rank)\nprint('err', world.rank, file=sys.stderr)\n" + WAIT


class Victim:
    """As on_tick: once all ranks wait, injures the job, one time."""

    def __init__(self, directory: Path, injure, ranks: int = 2):
        self.directory, self.injure, self.ranks, self.when = directory, injure, ranks, None

    def __call__(self) -> None:
        if self.when is None and len(list(self.directory.glob("status/rank-*.json"))) == self.ranks:
            self.when = time.monotonic()
            self.injure()


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job's directory, whose traces are looked at when the test ends."""
    directory, scratch = tmp_path / "job", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    traces = Traces(directory, scratch)
    yield directory
    assert traces.gone(within=2) < 2


def killer(job: Path, name: str):
    """Kills the process of the job whose program has this name."""

    def kill():
        (pid,) = Traces(job).named(name)
        os.kill(pid, signal.SIGKILL)

    return kill


# ---------------------------------------------------------------------- good ends


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_end(kind, job, tmp_path):
    ticks = []
    script = write_script(tmp_path, WELL + "time.sleep(0.7)")
    launch([script], 2, directory=job, mpi=mpi_of(kind), on_tick=lambda: ticks.append(1))
    for rank in range(2):
        assert f"out {rank}\nerr {rank}" in (job / "logs" / f"rank-{rank}.log").read_text()
        assert json.loads((job / "status" / f"rank-{rank}.json").read_text())["state"] == "done"
    assert len(ticks) >= 3


def test_one_rank_arguments_environment_and_a_second_launch_into_the_same_directory(job, tmp_path):
    body = "print(sys.argv[1:], os.environ['COLOUR'], __name__, world.size, sys.path[0] == os.path.dirname(sys.argv[0]))"
    script = write_script(tmp_path, body)
    for argument in ("--first", "--second"):
        launch([script, argument, "b c"], 1, directory=job, env={"COLOUR": "red"})
        assert (job / "logs" / "rank-0.log").read_text() == f"['{argument}', 'b c'] red __main__ 1 True\n"


def test_a_launch_inside_a_rank_of_another_job(job, tmp_path):
    inner = write_script(tmp_path, "assert world.size == 2\nprint('inner')", "inner.py")
    outer = f"""
from dkcore.launch.launch import launch
launch([{inner!r}], 2, directory={str(tmp_path / "inner")!r})
print("outer", world.size)
"""
    launch([write_script(tmp_path, outer)], 1, directory=job)
    assert (job / "logs" / "rank-0.log").read_text() == "outer 1\n"
    assert (tmp_path / "inner" / "logs" / "rank-1.log").read_text() == "inner\n"


# ---------------------------------------------------------------------- ranks that fail

DIED = r"died without an exception\. Killed, out of memory, or os\._exit\?"
ENDS = {
    "raise": ("raise ValueError('boo')", "ValueError: boo", 1),
    "sys.exit": ("sys.exit(3)", r"sys\.exit\(3\)", 3),
    "os._exit": ("os._exit(3)", rf"process {{pid}} {DIED} Exit code 3 from mpiexec\.", 3),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", rf"process {{pid}} {DIED} Exit code \d+ from mpiexec\.", None),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS)
def test_a_rank_that_fails_ends_the_job_and_is_named(kind, end, job, tmp_path):
    code, cause, exit_code = ENDS[end]
    injure = f"time.sleep(0.5)\n    open({str(tmp_path / 'when')!r}, 'w').close()\n    {code}"
    body = f"print('last words of', world.rank)\nif world.rank == 1:\n    {injure}\n{WAIT}"
    with pytest.raises(RankError) as caught:
        launch([write_script(tmp_path, body)], 2, directory=job, mpi=mpi_of(kind))
    assert time.time() - (tmp_path / "when").stat().st_mtime < 5
    text, pid = str(caught.value), json.loads((job / "status" / "rank-1.json").read_text())["pid"]
    assert text.startswith(f"Rank 1 (pid {pid} on {os.uname().nodename}) ")
    assert re.fullmatch(f"Error: rank 1 on {os.uname().nodename}: {cause.format(pid=pid)}", text.splitlines()[-1])
    assert text.endswith(caught.value.cause)
    assert "last words of 1" in text
    assert caught.value.rank == 1
    assert caught.value.exit_code == exit_code or (exit_code is None and caught.value.exit_code != 0)
    if end == "raise":
        assert re.search(r'Traceback.*\n  File ".*script.py", line \d+, in <module>\n    raise ValueError', text)
        assert text.count("Traceback") == 1
        assert "worker.py" not in text


def test_the_first_of_two_failures_is_told(job, tmp_path):
    body = f"time.sleep(0.4 * (1 - world.rank))\nraise ValueError(world.rank)\n{WAIT}"
    with pytest.raises(RankError, match="Error: rank 1 on .*: ValueError: 1$") as caught:
        launch([write_script(tmp_path, body)], 2, directory=job)
    assert caught.value.rank == 1


def test_a_failure_before_the_ranks_join(job, tmp_path):
    with pytest.raises(RankError, match="MissingError: Expected mpi4py and an MPI library") as caught:
        launch([write_script(tmp_path, "")], 2, directory=job, env={"MPI4PY_LIBMPI": "/nonexistent/libmpi.so"})
    assert caught.value.rank is None


# ---------------------------------------------------------------------- the launchers are killed

INJURIES = {("mpich", "hydra_pmi_proxy"): "died without an exception", ("mpich", "mpiexec.hydra"): "mpiexec killed by signal 9",
            ("openmpi", "prterun"): "mpiexec killed by signal 9"}  # fmt: skip


@pytest.mark.parametrize(("kind", "program"), INJURIES)
def test_a_killed_mpiexec_or_proxy_ends_the_job(kind, program, job, tmp_path):
    victim = Victim(job, killer(job, program))
    with pytest.raises(RankError, match=INJURIES[kind, program]):
        launch([write_script(tmp_path, "time.sleep(60)")], 2, directory=job, mpi=mpi_of(kind), on_tick=victim)
    assert time.monotonic() - victim.when < 5


def test_a_killed_reaper_ends_the_job(job, tmp_path):
    def kill():
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        (reaper,) = (int(pid) for pid in children if "reaper.py" in Path(f"/proc/{pid}/cmdline").read_text())
        os.kill(reaper, signal.SIGKILL)

    victim = Victim(job, kill)
    with pytest.raises(RankError):
        launch([write_script(tmp_path, "time.sleep(60)")], 2, directory=job, on_tick=victim)
    assert time.monotonic() - victim.when < 5


LAUNCHER = """
import sys
from dkcore.launch.launch import launch
launch(sys.argv[3:], 2, directory=sys.argv[1], mpi=sys.argv[2], output="inherit", temporary=True)
"""


@contextlib.contextmanager
def launcher(kind: str, job: Path, script: str):
    """A launch in a process of its own."""
    command = [sys.executable, "-c", LAUNCHER, str(job), mpi_of(kind), script]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=importable(dict(os.environ)), **pipes) as process:
        try:
            yield process
        finally:
            process.kill()  # for a test that failed before it ended


def started(process: subprocess.Popen) -> None:
    """Until both ranks have said that they are up."""
    assert [process.stdout.readline() for _ in range(2)] == ["up\n", "up\n"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_launcher_takes_everything_along(kind, job, tmp_path):
    traces = Traces(job)
    body = "print('up', flush=True)\ntime.sleep(60)"
    with launcher(kind, job, write_script(tmp_path, body)) as process:
        started(process)
        process.kill()
        process.communicate(timeout=10)
    assert traces.gone(within=5) < 5
    assert not job.exists()  # it was temporary


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_ends_the_job(number, job, tmp_path):
    traces = Traces(job)
    with launcher("mpich", job, write_script(tmp_path, f"print('up', flush=True)\n{WAIT}time.sleep(60)")) as process:
        started(process)
        began = time.monotonic()
        process.send_signal(number)
        error = process.communicate(timeout=10)[1]
    assert process.returncode == -number
    assert number != signal.SIGINT or "KeyboardInterrupt" in error
    assert traces.gone(within=5) + time.monotonic() - began < 5


def test_output_passes_through_with_both_streams_intact(job, tmp_path):
    body = """
for number in range(2000):
    print("out", world.rank, number)
    print("err", world.rank, number, file=sys.stderr)
"""
    with launcher("mpich", job, write_script(tmp_path, body)) as process:
        out, err = process.communicate(timeout=30)
    for text, stream in ((out, "out"), (err, "err")):
        assert sorted(text.splitlines()) == sorted(f"{stream} {rank} {number}" for rank in range(2) for number in range(2000))
    assert process.returncode == 0


# ---------------------------------------------------------------------- times that are up


def test_a_rendezvous_that_never_completes(job, tmp_path):
    """A rank that waits before it joins; here in Python's own start."""
    (tmp_path / "sitecustomize.py").write_text("import os, time\nif os.environ.get('PMI_RANK') == '1': time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(RankError, match=r"Error: no word from ranks \[0, 1\] within 1.5 s"):
        launch([write_script(tmp_path, "")], 2, directory=job, rendezvous=1.5, env={"PYTHONPATH": str(tmp_path)})
    assert time.monotonic() - began < 6


def test_a_timeout(job, tmp_path):
    with pytest.raises(RankError, match=r"Error: no end within the timeout of 1.5 s"):
        launch([write_script(tmp_path, "time.sleep(60)")], 2, directory=job, timeout=1.5)


def test_what_on_tick_raises_ends_the_job(job, tmp_path):
    def tick():
        raise KeyError("a bar that broke")

    with pytest.raises(KeyError, match="a bar that broke"):
        launch([write_script(tmp_path, "time.sleep(60)")], 2, directory=job, on_tick=tick)


def test_no_descendant_of_a_rank_outlives_the_job(job, tmp_path):
    body = "import subprocess\nif os.fork() == 0:\n    os.setsid()\n    os.execvp('sleep', ['sleep', '60'])\n"
    launch([write_script(tmp_path, body)], 1, directory=job)
    assert Traces(job).processes() == []


def test_an_orphaned_center_goes_with_the_job(job, tmp_path):
    """A rank that is killed cannot remove its center."""
    name = f"test-{os.getpid()}"
    body = f"""
import numpy as np
center = dk.Center.create(np.zeros(9, np.float32), name={name!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    with pytest.raises(RankError):
        launch([write_script(tmp_path, body)], 1, directory=job)
    assert not os.path.exists(f"/dev/shm/dkcore-{name}")


# ---------------------------------------------------------------------- refusals


def test_refusals(tmp_path, monkeypatch):
    script = write_script(tmp_path, "")
    with pytest.raises(ValueError, match=r"Expected 1 or more ranks. Received: 0."):
        launch([script], 0, directory=tmp_path)
    with pytest.raises(ValueError, match=r'Expected output="logs" or "inherit". Received: .none.'):
        launch([script], 1, directory=tmp_path, output="none")
    with pytest.raises(FileNotFoundError, match=r"Expected a job's directory or a script. Received: \['nowhere.py'\]."):
        launch(["nowhere.py"], 1, directory=tmp_path)
    with pytest.raises(MissingError, match=r"Expected an MPI to launch ranks with \(mpi=\'/nonexistent/mpiexec\'\)"):
        launch([script], 1, directory=tmp_path, mpi="/nonexistent/mpiexec")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r'Expected mpi4py. Received: none. Install it with: pip install "dkcore\[mpich\]"'):
        launch([script], 1, directory=tmp_path)
