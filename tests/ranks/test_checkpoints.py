"""Jobs that end in any way and go on: kill -9 of everything, signals, another number of workers, a full disk; with real ranks."""

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from mpi_ranks import environment, mpi_of
from seated_jobs import counting

import dkcore as dk
from dkcore.checkpoints import manifest as manifests
from dkcore.checkpoints.manifest import find
from dkcore.errors import CheckpointError
from dkcore.launch.mpi import find_mpi
from dkcore.training.lease_state import epochs_done

LONG = 100_000  # epochs: more than a test has time for
PATIENCE = 100.0


def arguments(tiny: Path, out: Path, *more: object, epochs: int = LONG) -> list[str]:
    options = ["--model", f"{tiny}/models.py:small", "--data", tiny / "data.npz", "--backend", "jax", "--scale", 0.01, "--quiet"]
    return [sys.executable, *map(str, ["-m", "dkcore", "train", *options, "--out", out, "--epochs", epochs, *more])]


def begin(command: list[str], folder: Path, env: dict[str, str] | None = None) -> subprocess.Popen:
    """Start a command, and wait for its first checkpoint."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    until = time.monotonic() + PATIENCE
    while not list(folder.glob("checkpoint-*/manifest.json")):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail(f"no checkpoint: {process.communicate()}")
        time.sleep(0.05)
    return process


def end(process: subprocess.Popen) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, out, err


def go_on(command: list[str], out: Path, folder: Path) -> dict:
    """Run a command to the end of the epoch that the newest checkpoint is in; its report."""
    epochs = 1 + max(rank["epoch"] for rank in find(str(folder)).manifest.ranks)
    done = subprocess.run([*command, "--epochs", str(epochs)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "report.json").read_text())


def test_after_kill_9_of_everything_a_job_goes_on_from_the_newest_whole_checkpoint(tmp_path, tiny):
    out, folder = tmp_path / "out", tmp_path / "out" / "checkpoints"
    process = begin(command := arguments(tiny, out, "--checkpoint-every", "5 exchanges", "--keep", 2), folder)
    while not (folder / "checkpoint-00000004").exists():
        time.sleep(0.02)
    process.kill()  # the reaper kills the ranks
    end(process)
    assert len(list(folder.glob("checkpoint-*"))) <= 3  # keep, and one that was just written
    newest = find(str(folder))
    part = Path(newest.location) / "rank-1.npz"
    part.write_bytes(part.read_bytes()[:-10])
    report = go_on([*command, "--resume", str(folder)], out, folder)
    assert report["resumed_from"] == find(str(folder)).location or report["resumed_from"] < newest.location
    assert "each of 2 workers has its optimizer back" in report["resumed"]
    assert report["epochs"] * 501 >= report["samples"] > 0
    assert not list(folder.glob(".draft*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_launcher_is_one_more_checkpoint_and_exit_code_0(tmp_path, tiny, number):
    out, folder = tmp_path / "out", tmp_path / "out" / "checkpoints"
    process = begin(arguments(tiny, out, "--checkpoint-every", "1s"), folder)
    process.send_signal(number)
    code, said, errors = end(process)
    assert code == 0, errors
    line = said.splitlines()[-1]
    assert line.startswith(f"Stopped by a signal after {find(str(folder)).location}. To go on: python -m dkcore train ")
    assert [path.name for path in out.iterdir()] == ["checkpoints"]
    command = [sys.executable, *shlex.split(line.partition("To go on: ")[2])[1:]]
    assert go_on(command, out, folder)["resumed_from"] == command[-1]


@pytest.mark.parametrize(("kind", "number"), [("mpich", signal.SIGTERM), ("openmpi", signal.SIGUSR1)])
def test_a_signal_to_mpiexec_reaches_ranks(tmp_path, tiny, kind, number):
    out, folder = tmp_path / "out", tmp_path / "out" / "checkpoints"
    mpiexec = find_mpi(mpi_of(kind)).command(2)
    process = begin([*mpiexec, *arguments(tiny, out, "--checkpoint-every", "1s")], folder, environment(kind))
    process.send_signal(number)
    code, said, errors = end(process)
    assert (code, "Stopped by a signal after" in said) == (0, True), errors
    steps = [rank["steps"] for rank in find(str(folder)).manifest.ranks]
    assert len(steps) == 2 and min(steps) > 0
    assert [path.name for path in out.iterdir()] == ["checkpoints"]


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])


def trainer(**more) -> dk.Trainer:
    options = {"loss": "sparse_categorical_crossentropy", "batch_size": 8, "communication_window": 4, **more}
    return dk.AEASGD(model(), "adam", **options)


def test_more_workers_and_fewer_go_on_with_copies_of_optimizers(tmp_path):
    x = np.random.default_rng(0).standard_normal((240, 4)).astype("float32")
    data, folder = (x, (x.sum(1) > 0).astype("int32")), tmp_path / "checkpoints"
    trainer(num_workers=2, num_epoch=2, checkpoint=folder).train(data)
    saved = find(str(folder))
    more = trainer(num_workers=3, num_epoch=4, resume=folder, checkpoint=folder)
    trained = more.train(data)
    assert "2 workers then, 3 now: the first 2 have the optimizers, and the others copies" in more.report["resumed"]
    assert more.report["resumed_from"] == saved.location
    assert len(more.report["checkpoints"]) >= 1
    left = 4 - epochs_done(saved.manifest)  # 2 or 3; or between, where one of the two workers was an epoch ahead
    assert 2 <= left <= 3 and abs(more.report["samples"] - left * 240) <= 3 * 8  # a batch of each worker
    assert abs(int(trained.optimizer.iterations) - saved.manifest.ranks[0]["steps"] - left * 10) <= 1
    fewer = trainer(num_workers=1, num_epoch=9, resume=folder)
    fewer.train(data)
    assert "3 workers then, 1 now: the first 1 have the optimizers" in fewer.report["resumed"]
    with pytest.raises(dk.errors.RankError, match="CheckpointError: Expected a checkpoint with epochs left to do"):
        trainer(num_workers=1, num_epoch=1, resume=folder).train(data)
    with pytest.raises(CheckpointError, match="a whole checkpoint in .*none"):
        trainer(num_workers=1, num_epoch=9, resume=tmp_path / "none").train(data)
    with pytest.raises(ValueError, match="a folder for checkpoints"):
        trainer(checkpoint_every="1 epoch")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_costs_checkpoints_and_not_the_training(tmp_path, tiny):
    libc, folder = ctypes.CDLL(None), tmp_path / "small"
    folder.mkdir()
    assert libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, b"size=40k") == 0
    try:
        out = tmp_path / "out"
        command = arguments(tiny, out, "--checkpoint", folder, "--checkpoint-every", "4 exchanges", epochs=20)
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        report = json.loads((out / "report.json").read_text())
        assert report["checkpoints_failed"] >= 1
        assert len(list(folder.glob("checkpoint-*"))) <= 1
        assert not list(folder.glob(".draft*"))
    finally:
        libc.umount(str(folder).encode())


def as_format_1(folder: Path) -> None:
    """What dkcore wrote before batches were leased: a manifest that knows nothing of leases."""
    path = Path(find(str(folder)).location) / "manifest.json"
    plain = json.loads(path.read_text())
    del plain["leases"], plain[manifests.CHECKSUM]
    plain["format"] = 1
    path.write_text(json.dumps({**plain, manifests.CHECKSUM: manifests.checksum(plain)}))


@pytest.mark.parametrize("sharding", ["fixed", "dynamic"])
def test_a_checkpoint_of_the_old_format_is_read(tmp_path, sharding):
    """It has no leases. A job that leases batches goes on with the same fraction of the epoch, in an order of its own."""
    out, rows = tmp_path / "out", 32
    command = [
        sys.executable,
        "-m",
        "dkcore",
        "train",
        "--backend",
        "jax",
        "--quiet",
        "--batch-size",
        "4",
        "--window",
        "2",
        "--out",
        str(out),
    ]
    command += [*counting(tmp_path, rows), "--checkpoint-every", "1 epoch"]
    subprocess.run([*command, "--epochs", "2"], check=True, timeout=PATIENCE)
    as_format_1(out / "checkpoints")
    more = ["--epochs", "3", "--sharding", sharding, "--resume", str(out / "checkpoints")]
    subprocess.run([*command, *more], check=True, timeout=PATIENCE)
    report = json.loads((out / "report.json").read_text())
    assert "2 have the optimizers" in report["resumed"] or "each of 2 workers has its optimizer back" in report["resumed"]
    counts = keras.models.load_model(out / "model.keras").get_weights()[0].ravel()
    window = 2 * 4  # rows: the second worker does not stop while the center is copied
    if sharding == "fixed":
        assert np.abs(counts - 3).sum() <= window
    assert abs(counts.sum() - 3 * rows) <= window + 4 / 2, "half a batch, where the fraction is rounded"
