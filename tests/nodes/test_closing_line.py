"""What the user reads last is the cause: one line for each kind of failure, after the traceback, whoever has started the ranks.

What a launch raises is in ranks/test_launch.py, over hosts in test_launch_hosts.py, under Spark in spark/test_run.py, of a
training in ranks/test_trainers.py and ranks/test_cli.py, inside mpirun in test_inside.py, too.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults import DATA, NAN
from mpi_ranks import KINDS, environment, mpi_of, write_script

from dkcore import center
from dkcore.errors import RankError, one_line
from dkcore.launch.diagnosis import explain
from dkcore.launch.launch import launch
from dkcore.launch.mpi import find_mpi
from dkcore.ranks.status import LOGS, Status, StatusDirectory
from dkcore.training.progress import Progress

HERE = os.uname().nodename
DKCORE = (sys.executable, "-P", "-m", "dkcore")
ENDS = {
    "an exception": ("raise ValueError(f'weights are {np.arange(784.)}')", r"ValueError: weights are \[ 0\. 1\..* \.\.\."),
    "an exit code": ("sys.exit(3)", r"sys\.exit\(3\)"),
    "a kill": ("os.kill(os.getpid(), signal.SIGKILL)", r"process(es \d+ and)? \d+ died without an exception\. .*"),
    "NaN": (NAN, "NotFiniteError: NaN or infinity in the worker's element 0"),
    "bad data": (DATA, r"DataError: Expected a sample for each of 2 workers\. Received: 1 samples\. Use fewer workers\."),
}
# A kill under one's own mpirun is told by mpirun itself, which ends the other ranks before they could; see ranks/test_world.py for others.
CELLS = [(how, kind, end) for how in ("mpirun", "run") for kind in KINDS for end in ENDS if (how, end) != ("mpirun", "a kill")]
SEVERAL = "(rank|ranks 0 and) 1"  # MPICH kills the others at once, and where its words pass through nobody knows who was the first


def terminal(*command: str, timeout: float = 60, **options) -> list[str]:
    """The lines that a command leaves on a terminal, both streams in one; it fails."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, timeout=timeout, check=False, **pipes, **options)
    assert done.returncode != 0, done.stdout
    return done.stdout.rstrip().splitlines()


@pytest.mark.parametrize(("how", "kind", "end"), CELLS)
def test_the_cause_comes_last_and_once(how, kind, end, tmp_path):
    code, cause = ENDS[end]
    script = write_script(tmp_path, f"import numpy as np\nif world.rank == 1:\n    {code}\nworld.comm.Barrier()\n")
    if how == "run":
        lines = terminal(*DKCORE, "run", "--mpi", mpi_of(kind), "-n", "2", script)
    else:
        lines = terminal(*find_mpi(mpi_of(kind)).command(2), *DKCORE, "run", script, env=environment(kind))
    closing = [place for place, line in enumerate(lines) if line.startswith("Error: ")]
    assert len(closing) == 1
    who = SEVERAL if end == "a kill" else "rank 1"
    assert re.fullmatch(rf"Error: {who} on {HERE}: {cause}", lines[closing[0]])
    tracebacks = [place for place, line in enumerate(lines) if line.startswith("Traceback")]
    assert len(tracebacks) == (end not in ("an exit code", "a kill"))
    assert all(place < closing[0] for place in tracebacks)
    assert how == "mpirun" or closing[0] == len(lines) - 1


def failed(directory: Path, log: str) -> tuple[Status, str]:
    """A rank that failed by an error with a cause, and what its launcher says of it. log: printed before."""
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError(f"batch {np.arange(784.0).tolist()}\n" + "row\n" * 100) from error
    except ValueError as error:
        status = Status(1, 2)
        status.ended(error)
    (directory / LOGS).mkdir()
    (directory / LOGS / "rank-1.log").write_text(log + status.trace)
    return status, str(explain({1: status}, 2, None, "", None, directory))


def test_the_end_of_the_log_the_traceback_and_the_cause_in_this_order_each_once(tmp_path):
    log = "Traceback (most recent call last)\nof an attempt before\nlast words\n"
    status, text = failed(tmp_path, log)
    parts = ("Rank 1 (pid", "of an attempt before", "last words", "KeyError", "\nValueError: batch", "\nError: ")
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.count("Traceback (most") == 3  # that in the log, and the two of the error and its cause
    assert text.splitlines()[-1] == f"Error: rank 1 on {HERE}: {status.error}"


NOTES = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795943783.567107   18903 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.\n"
)


@pytest.mark.parametrize(("level", "shown"), [(None, False), ("2", False), ("1", False), ("0", True)])
def test_what_frameworks_say_of_themselves_is_in_the_log_alone(level, shown, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)  # JAX sets it in the process that imports it
    if level is not None:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    _, text = failed(tmp_path, f"{NOTES}W0000 00:00:1795943783.5   18903 one.cc:31] a warning\nlast words\n")
    assert "last words" in text and "a warning" in text
    assert ("absl" in text, "GPU" in text) == (shown, shown)


def test_of_a_rank_with_tensorflow_nothing_is_shown_but_its_error(tmp_path):
    """TensorFlow says on a machine without a GPU, whatever the level, that there is none."""
    script = write_script(tmp_path, "import tensorflow\nraise ValueError('mine')\n")
    with pytest.raises(RankError) as caught:
        launch([script], 1, directory=tmp_path / "job", mpi=mpi_of("mpich"))
    lines = str(caught.value).splitlines()
    assert lines[-1] == f"Error: rank 0 on {HERE}: ValueError: mine"
    assert "absl" in (tmp_path / "job" / LOGS / "rank-0.log").read_text(), "no chatter: this test shows nothing any longer"
    assert not [line for line in lines if "absl" in line or "GPU" in line]


def test_a_message_that_goes_on_and_on_is_cut(tmp_path):
    status, _ = failed(tmp_path, "")
    assert re.fullmatch(r"ValueError: batch \[0\.0, 1\.0, .{400,480} \.\.\.", status.error)
    assert len(status.trace) < 3500
    assert status.trace.endswith(" ...\n")
    assert one_line(ValueError("\x1b[1mshort,\n  bold\x1b[0m")) == "ValueError: short, bold"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_an_error_without_a_text_that_can_be_had():
    class Mute(Exception):
        def __str__(self):
            raise OSError

    assert one_line(Mute()) == "Mute: <exception str() failed>"


def test_the_progress_line_says_what_goes_on_before_the_first_step(tmp_path):
    with Progress(tmp_path, "ADAG", 2, show=True) as progress:

        def stage() -> str:
            progress.update()
            return progress.bar.tasks[0].fields["stage"]

        assert stage() == "starting ranks"
        StatusDirectory(tmp_path).write(Status(0, 2))
        assert stage() == "starting ranks, 1 of 2"
        StatusDirectory(tmp_path).write(Status(1, 2))
        assert stage() == "loading framework, model and data"
        with center.Center.create(np.zeros(9, np.float32)) as made, made.worker() as worker:
            (tmp_path / "center").write_text(made.name)
            assert stage() == "compiling"
            worker.report(samples=32, total_samples=1000)
            assert stage() == "32/1,000 samples"
            assert progress.bar.tasks[0].total == 1000
