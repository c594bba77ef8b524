"""python -m dkcore.worker SCRIPT.py, as a user's own mpiexec would run it."""

import sys
import time

import pytest
from mpi_ranks import KINDS, Traces, mpirun

WORKER = (sys.executable, "-m", "dkcore.worker")


def test_a_script_runs_as_python_would_run_it(tmp_path):
    (tmp_path / "beside.py").write_text("COLOUR = 'red'")
    script = tmp_path / "script.py"
    script.write_text("import sys, beside, dkcore\nprint(__name__, __file__, sys.argv, beside.COLOUR, dkcore.init().size)")
    done = mpirun("mpich", *WORKER, str(script), "-n", "a b")
    line = f"__main__ {script} {[str(script), '-n', 'a b']} red 2\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, 2 * line, "")


@pytest.mark.parametrize("kind", KINDS)
def test_an_exit_of_one_rank_ends_the_job_with_its_code(kind, tmp_path):
    """Even without mpi4py's runner; exit hooks see no difference between this and a good end."""
    script = tmp_path / "script.py"
    script.write_text("import sys, dkcore\nworld = dkcore.init()\nif world.rank == 1:\n    sys.exit(3)\nworld.comm.Barrier()")
    traces, began = Traces(tmp_path), time.monotonic()
    assert mpirun(kind, *WORKER, str(script)).returncode == 3
    assert time.monotonic() - began < 5
    assert traces.gone() < 3


def test_the_traceback_is_the_script_s_alone(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("1 / 0")
    done = mpirun("mpich", *WORKER, str(script))
    assert done.returncode == 1
    assert f'Traceback (most recent call last):\n  File "{script}", line 1, in <module>' in done.stderr
    assert "worker.py" not in done.stderr


def test_without_arguments_it_says_what_it_wants():
    done = mpirun("mpich", *WORKER, ranks=1)
    assert done.returncode == 1
    assert "Expected python -m dkcore.worker JOBDIR | SCRIPT.py ARGUMENTS. Received: no argument." in done.stderr
