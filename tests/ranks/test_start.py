"""Workers start together, and what the report says of time and samples follows from the history, for runs of every length."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_cli import train

from dkcore.report import history

ROWS, BATCH, SLOW = 203, 16, 3.0
MODELS = f"""
import os, time
import keras

@keras.saving.register_keras_serializable("test_start")
class Slow(keras.layers.Layer):
    '''Takes its time when it is traced by the last rank, as a compiler does.'''
    def call(self, x):
        if self.built and os.environ.get("PMI_RANK") == "2":
            time.sleep({SLOW})
        return x

def slow():
    return make(Slow())

def fast():
    return make()

def make(*layers):
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("start")
    x = np.random.default_rng(0).standard_normal((ROWS, 4)).astype("float32")
    np.savez(made / "data.npz", x_train=x, y_train=x[:, :1], x_test=x[:50], y_test=x[:50, :1])
    np.savez(made / "untested.npz", x_train=x, y_train=x[:, :1])
    (made / "models.py").write_text(MODELS)
    return made


def run(folder: Path, out: Path, *options: object, model: str = "fast", data: str = "data") -> tuple[dict, list[dict]]:
    common = ("--model", f"{folder}/models.py:{model}", "--data", folder / f"{data}.npz", "--backend", "jax", "--quiet")
    report = train(out, *common, "--batch-size", BATCH, *options)
    return report, history.read(out / "history.parquet").to_pylist()


def recomputed(rows: list[dict], workers: int, epochs: range) -> dict:
    """The figures of a report, from nothing but the history, the number of rows and the size of a batch."""
    first, last, samples, timed = [], [], 0, 0
    evaluations = [row["seconds"] for row in rows if row["worker"] == -1][1 : 1 + max(len(epochs) - 1, 0)]
    for worker in range(workers):
        mine = [row for row in rows if row["worker"] == worker]
        share = len(range(worker, ROWS, workers))
        steps = -(-share // BATCH)

        def seen(row: dict, share: int = share, steps: int = steps) -> int:
            done = row["epoch"] - epochs[0]
            return done * share + min((row["step"] - done * steps) * BATCH, share)

        samples, timed = samples + seen(mine[-1]), timed + seen(mine[-1]) - seen(mine[0])
        first.append(mine[0]["time"])
        last.append(mine[-1]["time"] - (sum(evaluations) if worker == 0 else 0.0))
    exchanges = [row for row in rows if row["worker"] >= 0]
    later = [row for worker in range(workers) for row in [row for row in exchanges if row["worker"] == worker][1:]]
    seconds, spans = max(last) - min(first), sum(last) - sum(first)
    return {
        "samples": samples,
        "exchanges": len(exchanges),
        "startup_s": max(first),
        "training_time_s": seconds,
        "samples_per_s": timed / seconds if seconds > 0 else None,
        "exchange_share": sum(row["seconds"] for row in later) / spans if spans > 0 else None,
        "mean_staleness": np.mean([row["staleness"] for row in exchanges]),
        "test_loss": next((row["loss"] for row in reversed(rows) if row["worker"] == -1), None),
    }


@pytest.mark.parametrize(
    ("options", "workers", "epochs", "data"),
    [
        (("--workers", 2, "--epochs", 3, "--window", 2), 2, range(3), "data"),
        (("--workers", 3, "--epochs", 2, "--window", 5, "--trainer", "dynsgd"), 3, range(2), "untested"),  # unequal shards
        (("--trainer", "SingleTrainer", "--window", 100), 1, range(1), "data"),  # one exchange: no span of time
        (("--workers", 2, "--epochs", 4, "--initial-epoch", 2, "--window", 3), 2, range(2, 4), "data"),  # goes on
    ],
)
def test_every_figure_follows_from_the_history(folder, tmp_path, options, workers, epochs, data):
    report, rows = run(folder, tmp_path, *options, data=data)
    figures = recomputed(rows, workers, epochs)
    known = {name: value for name, value in figures.items() if value is not None}
    assert {name: report[name] for name in known} == pytest.approx(known)
    assert all(report[name] is None for name in figures.keys() - known.keys())
    assert report["samples"] == ROWS * len(epochs)


def test_nobody_exchanges_before_all_have_compiled(folder, tmp_path):
    """One worker of four once made its first exchange after the other three had ended."""
    _, rows = run(folder, tmp_path, "--workers", 3, "--window", 1, "--epochs", 2, "--mpi", "mpich", model="slow", data="untested")
    firsts = [min(row["time"] for row in rows if row["worker"] == worker) for worker in range(3)]
    lasts = [max(row["time"] for row in rows if row["worker"] == worker) for worker in range(3)]
    assert min(firsts) >= SLOW  # the last rank traces for so long
    assert max(firsts) <= min(lasts)  # all are under way at once
    assert json.loads((tmp_path / "report.json").read_text())["startup_s"] >= SLOW
