"""The command line over hosts, and inside ranks that somebody else has started: the launcher does not matter."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import KINDS, environment, mpirun, write_script

from dkcore.launch.launch import importable
from dkcore.launch.mpi import is_rank

DKCORE = (sys.executable, "-P", "-m", "dkcore")
RESULTS = {"model.keras", "history.parquet", "report.json", "report.png"}
PLACE = """
import socket
print("rank", world.rank, "of", world.size, socket.gethostname(), sys.argv[1:], flush=True)
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A folder with a small model and data of two classes that a line divides."""
    folder = tmp_path_factory.mktemp("tiny")
    x = np.random.default_rng(0).integers(0, 255, (501, 2, 2)).astype("uint8")
    np.savez(folder / "data.npz", x_train=x, y_train=(x.sum((1, 2)) > 4 * 127).astype("int64"))
    (folder / "models.py").write_text(
        "import keras\n"
        "def small():\n"
        "    return keras.Sequential([keras.Input((2, 2)), keras.layers.Flatten(), keras.layers.Dense(2, activation='softmax')])\n"
        "def nothing():\n"
        "    return 42\n"
    )
    return folder


def train(tiny: Path, out: Path, *more: str, model: str = "small", data: str = "data.npz") -> tuple[str, ...]:
    options = ("--model", f"{tiny}/models.py:{model}", "--data", str(tiny / data), "--backend", "jax", "--out", str(out))
    return (*DKCORE, "train", *options, *more)


def over_hosts(network, *command: str, **more: str) -> subprocess.CompletedProcess:
    """A command of a user on the first host."""
    env = importable({**os.environ, "DKCORE_LAUNCH_AGENT": str(network.agent), **more})
    return subprocess.run(network.nodes[0].command(*command), env=env, capture_output=True, text=True, timeout=120)


# ---------------------------------------------------------------------- --hosts


def test_a_training_over_hosts(two_nodes, tiny, tmp_path):
    (tmp_path / "hosts").write_text("node0 slots=1  # the first\nnode1\n")
    done = over_hosts(two_nodes, *train(tiny, tmp_path / "out", "--hostfile", str(tmp_path / "hosts")))
    assert done.returncode == 0, done.stderr
    assert "ADAG, 2 workers" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == RESULTS
    assert json.loads((tmp_path / "out" / "report.json").read_text())["samples"] == 501
    two_nodes.gone(within=1)


def test_a_trainer_over_hosts(two_nodes, tmp_path):
    body = """
import keras, numpy as np
import dkcore as dk
x = np.random.default_rng(0).standard_normal((100, 4)).astype("float32")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
trainer = dk.ADAG(model, "adam", "sparse_categorical_crossentropy", hosts="node0,node1", batch_size=8, directory="shared")
trained = trainer.train((x, (x.sum(1) > 0).astype("int32")))
print(trainer.report["workers"], trainer.report["samples"], trained.count_params())
"""
    (tmp_path / "script.py").write_text(body)
    (tmp_path / "shared").mkdir()
    script = f"cd {tmp_path} && exec {sys.executable} script.py"
    done = over_hosts(two_nodes, "sh", "-c", script, KERAS_BACKEND="jax")
    assert (done.returncode, done.stdout) == (0, "2 100 10\n"), done.stderr
    assert list((tmp_path / "shared").iterdir()) == []
    two_nodes.gone(within=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_over_hosts(kind, two_nodes, tmp_path):
    from mpi_ranks import mpi_of

    command = (*DKCORE, "run", "--hosts", "node1:2,node0:1", "--mpi", mpi_of(kind), write_script(tmp_path, PLACE), "--flag")
    done = over_hosts(two_nodes, "sh", "-c", 'cd "$0" && exec "$@"', str(tmp_path), *command)
    assert done.returncode == 0, done.stderr
    hosts = ["node1", "node1", "node0"]
    assert sorted(done.stdout.splitlines()) == [f"rank {rank} of 3 {host} ['--flag']" for rank, host in enumerate(hosts)]
    assert {path.name for path in tmp_path.iterdir()} == {"script.py"}
    two_nodes.gone(within=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--hosts", "a:2,b", "--workers", "4"), "Expected slots for 4 ranks. Received: 3 (a:2, b:1)."),
        (("--hosts", "a:x"), "Expected a host as host or host:SLOTS. Received: 'a:x'."),
        (("--hosts", "a", "--hostfile", "{tiny}/models.py"), "Expected --hosts or --hostfile. Received: both."),
        (("--hosts", "a:2", "--trainer", "SingleTrainer"), "Expected 1 worker for plain training. Received: 2."),
    ],
)
def test_contradictions_are_refused_before_any_rank_starts(arguments, message, tiny, tmp_path):
    arguments = [word.format(tiny=tiny) for word in arguments]
    done = subprocess.run(train(tiny, tmp_path, *arguments), env=importable(dict(os.environ)), capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- inside a world


@pytest.mark.parametrize("kind", KINDS)
def test_mpirun_trains(kind, tiny, tmp_path):
    done = mpirun(kind, *train(tiny, tmp_path / "out", "--workers", "2"), timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ADAG, 2 workers") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == RESULTS


def test_mpirun_trains_over_hosts(two_nodes, tiny, tmp_path):
    done = two_nodes.run("mpich", *train(tiny, tmp_path / "out", "--quiet"), ranks_per_node=1, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert json.loads((tmp_path / "out" / "report.json").read_text())["workers"] == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == RESULTS
    two_nodes.gone(within=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("more", "options", "message"),
    [
        ((), {"data": "missing.npz"}, "Expected an .npz file"),
        (("--workers", "3"), {}, "Expected --workers 2, as many as mpiexec or srun has started. Received: 3."),
        (("--hosts", "a:2"), {}, "Expected no hosts inside ranks that run already. Received: --hosts or --hostfile."),
    ],
)
def test_what_is_wrong_before_the_training_is_said_once(kind, more, options, message, tiny, tmp_path):
    done = mpirun(kind, *train(tiny, tmp_path / "out", *more, **options))
    assert done.returncode == 1
    assert done.stderr.count(message) == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wrong_in_a_rank_ends_all(kind, tiny, tmp_path):
    done = mpirun(kind, *train(tiny, tmp_path / "out", model="nothing"), timeout=60)
    assert done.returncode == 1
    closing = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    whole = r"Error: rank \d on \S+: ModelError: .* that returns a Keras model\. Received: 42\. .*"
    assert any(re.fullmatch(whole, line) for line in closing)  # all fail alike: one may be ended while it speaks
    assert list((tmp_path / "out").iterdir()) == []


def test_data_of_another_shape_are_refused_by_one_rank(tiny, tmp_path):
    np.savez(tmp_path / "deep.npz", x_train=np.zeros((8, 2, 2, 2)), y_train=np.zeros(8))
    done = mpirun("mpich", *train(tiny, tmp_path / "out", data=str(tmp_path / "deep.npz")), timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("DataError: Expected samples of shape (2, 2). Received: x of shape (2, 2, 2).") == 2  # traceback, closing line
    assert list((tmp_path / "out").iterdir()) == []


def test_results_that_cannot_be_written_end_all_ranks(tiny, tmp_path):
    """Rank 0 fails when the others have ended already."""
    (tmp_path / "out" / "report.png").mkdir(parents=True)
    done = mpirun("mpich", *train(tiny, tmp_path / "out"), timeout=60)
    assert done.returncode == 1
    assert "report.png" in done.stderr
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("kind", KINDS)
def test_mpirun_runs_a_script(kind, tmp_path):
    done = mpirun(kind, *DKCORE, "run", write_script(tmp_path, PLACE), "-n", "x")
    host = os.uname().nodename
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"rank {rank} of 2 {host} ['-n', 'x']" for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("end", "code"), [("sys.exit(5)", 5), ("raise OSError('boo')", 1)])
def test_a_script_s_end_is_the_job_s(kind, end, code, tmp_path):
    """The command line makes an exit of a rank of what is raised, which the others would never hear of."""
    done = mpirun(kind, *DKCORE, "run", write_script(tmp_path, f"if world.rank == 1:\n    {end}\nworld.comm.Barrier()"), timeout=20)
    assert done.returncode == code
    assert "Error: boo" not in done.stderr.replace("OSError: boo", "")


def test_who_is_a_rank():
    assert is_rank({"PMI_RANK": "0"})
    assert is_rank({"PMIX_RANK": "0"})
    assert is_rank({"OMPI_COMM_WORLD_RANK": "3"})
    assert is_rank({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"})  # without MPI: dkcore.init will say so
    assert not is_rank({"SLURM_PROCID": "0", "SLURM_JOB_ID": "7"})  # a batch script
    assert not is_rank({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"})  # srun --pty, on one node
    assert not is_rank({"PMI_RANK": "0", "DKCORE_LAUNCH": "a mark"})  # a child of a job's rank
    assert not is_rank({})


def test_a_rank_may_launch_by_the_command_line(tmp_path):
    inner = tmp_path / "inner.py"
    inner.write_text("import dkcore\nprint('inner', dkcore.init().size)")
    command = [*DKCORE, "run", "-n", "3", str(inner)]
    outer = write_script(tmp_path, f"import subprocess\nassert not subprocess.run({command!r}).returncode\nprint('outer', world.size)")
    command = [*DKCORE, "run", "-n", "1", outer]
    done = subprocess.run(command, env=environment("mpich"), capture_output=True, text=True, timeout=60)
    assert sorted(done.stdout.splitlines()) == ["inner 3", "inner 3", "inner 3", "outer 1"], done.stderr
