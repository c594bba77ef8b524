"""A training that goes on from a checkpoint is the training in one go, bit for bit; run in a pytest for each backend."""

import io
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import dkcore as dk
from dkcore.checkpoints.folder import name_of
from dkcore.checkpoints.manifest import find
from dkcore.training.job import Job
from dkcore.training.train import train

SAMPLES, BATCH, WINDOW, EPOCHS = 90, 8, 3, 4  # 12 steps an epoch


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """With statistics, and noise from a generator of the model's and from the framework's own."""
    path = tmp_path_factory.mktemp("model") / "models.py"
    path.write_text(
        "import keras\n"
        "def small():\n"
        "    return keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dropout(0.2),\n"
        "        keras.layers.Dense(3, activation='relu'), keras.layers.Dropout(0.2, seed=7), keras.layers.Dense(1)])\n"
    )
    return f"{path}:small"


def run(folder: Path, model: str, rule: str, **settings) -> dict[str, np.ndarray]:
    """Train in this process; what is in the file of the trained model: weights and optimizer."""
    x = np.random.default_rng(0).standard_normal((SAMPLES, 4)).astype("float32")
    data = {"x_train": x, "y_train": x.sum(1, keepdims=True)}
    stated = {"model": model, "rule": rule, "workers": 1, "window": WINDOW, "batch_size": BATCH, "loss": "mse", "metrics": []}
    job = Job(**stated, epochs=EPOCHS, backend=keras.backend.backend(), scalars={"alpha": 0.3} if rule == "aeasgd" else {}, **settings)
    train(Job.load(job.save(folder, data).home), dk.init())
    with zipfile.ZipFile(folder / "trained.keras") as archive:
        file = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    found: dict[str, np.ndarray] = {}
    file.visititems(lambda name, each: found.update({name: each[()]}) if isinstance(each, h5py.Dataset) else None)
    return found


EMA = keras.saving.serialize_keras_object(keras.optimizers.SGD(momentum=0.9, use_ema=True))
CASES = [("downpour", "adam", "6 exchanges", 6), ("aeasgd", "adam", "2 epochs", 0), ("aeasgd", EMA, "7 exchanges", 9)]


@pytest.mark.parametrize(("rule", "optimizer", "every", "step"), CASES)
def test_resumed_is_in_one_go(tmp_path, model, rule, optimizer, every, step):
    folder = tmp_path / "checkpoints"
    whole = run(tmp_path / "a", model, rule, optimizer=optimizer, checkpoint=str(folder), checkpoint_every=every, keep=99)
    first = folder / name_of(1)
    where = find(str(first)).manifest.ranks[0]
    assert (where["step"], where["epoch"] in (1, 2)) == (step, True)
    resumed = run(tmp_path / "b", model, rule, optimizer=optimizer, resume=str(first))
    assert sorted(resumed) == sorted(whole) and any(name.startswith("optimizer") for name in whole)
    for name, array in whole.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)


def test_checkpoints_change_nothing(tmp_path, model):
    plain = run(tmp_path / "a", model, "aeasgd")
    watched = run(tmp_path / "b", model, "aeasgd", checkpoint=str(tmp_path / "checkpoints"), checkpoint_every="1 exchange", keep=1)
    for name, array in plain.items():
        np.testing.assert_array_equal(watched[name], array, err_msg=name)
