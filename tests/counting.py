"""A job whose model counts: when a row is trained, its weight in the center grows by 1. By downpour, on any number of workers."""

import io
import zipfile
from pathlib import Path

import numpy as np

__all__ = ["ROWS", "arguments", "times_of", "write_counting"]

ROWS = 203
MODEL = f"""
import keras

class Total(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return -y_pred[:, 0]

def counter():
    rows = keras.Input((1,), dtype="int32")
    count = keras.layers.Reshape((1,))(keras.layers.Embedding({ROWS}, 1, embeddings_initializer="zeros")(rows))
    model = keras.Model(rows, count)
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=Total(reduction="sum"))
    return model
"""


def write_counting(folder: Path) -> Path:
    """Model and rows, in that folder."""
    (folder / "counting_model.py").write_text(MODEL)
    np.savez(folder / "rows.npz", x_train=np.arange(ROWS, dtype=np.int32)[:, None], y_train=np.zeros(ROWS))
    return folder


def arguments(folder: Path, out: Path, *more: object) -> list[str]:
    """Of ``python``: train it in batches of 4, so the last one of an epoch has 3 rows, and windows of 3 batches."""
    options = ["--model", f"{folder}/counting_model.py:counter", "--data", folder / "rows.npz", "--trainer", "downpour", "--batch-size", 4]
    return [*map(str, ["-m", "dkcore", "train", *options, "--window", 3, "--backend", "jax", "--quiet", "--out", out, *more])]


def times_of(out: Path) -> np.ndarray:
    """How often each row was trained, as the trained model has it; shape (ROWS,)."""
    import h5py

    found = []
    with zipfile.ZipFile(out / "model.keras") as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda name, item: found.append(item[:]) if getattr(item, "size", 0) == ROWS and "optimizer" not in name else None)
    (weights,) = found
    return weights.ravel()
