import json
import math
import subprocess
import sys

import numpy as np
import pytest

from dkcore.report import report
from dkcore.report.history import CENTER, History

SUMMARY = {
    "trainer": "ADAG",
    "workers": np.int64(2),
    "window": 12,
    "epochs": 1,
    "samples": 60000,
    "exchanges": 158,
    "training_time_s": np.float32(6.5),
    "samples_per_s": 9230.769,
    "exchange_share": 0.006,
    "mean_staleness": 1.0,
    "test_loss": math.nan,
    "test_accuracy": np.float64(0.9652),
    "levels": ["tensorflow-op", math.inf],
}
SCRIPT = """
import sys
from pathlib import Path
from dkcore.report import report
from dkcore.report.history import History
made = History()
made.append(1, 0.5, 0, 0.5)
report.write(Path(sys.argv[1]), {"trainer": "ADAG"}, made.table(0), None)
assert "matplotlib.pyplot" not in sys.modules
"""


def reject(constant):
    raise AssertionError(f"{constant} is not JSON")


def read(directory):
    return json.loads((directory / "report.json").read_text(), parse_constant=reject)


def test_json_has_all_keys_and_no_nan(tmp_path):
    report.write(tmp_path, SUMMARY)
    found = read(tmp_path)
    assert list(found) == [*report.KEYS, "levels"]
    assert found["workers"] == 2
    assert found["training_time_s"] == 6.5
    assert found["test_loss"] is None
    assert found["test_accuracy"] == 0.9652
    assert found["levels"] == ["tensorflow-op", None]


def test_nothing_known(tmp_path):
    report.write(tmp_path, {})
    assert read(tmp_path) == dict.fromkeys(report.KEYS)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("metrics", [{}, {"accuracy": 0.5}, {"mae": 2.0, "mse": 1.0}])
@pytest.mark.parametrize("workers", [1, 9])
@pytest.mark.parametrize("center", [False, True])
def test_picture_of_whatever_there_is(tmp_path, metrics, workers, center):
    import pyarrow

    tables = []
    for worker in [*range(workers), *([CENTER] if center else [])]:
        made = History()
        for step in range(1 + worker % 3):
            made.append(step, step / 2, 0, loss=-float(step), metrics=metrics)
        tables.append(made.table(worker))
    histogram = {worker: np.arange(64) for worker in range(workers)} if center else None
    report.write(tmp_path, SUMMARY, pyarrow.concat_tables(tables, promote_options="default"), histogram)
    content = (tmp_path / "report.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") == 1650  # pixels wide
    assert read(tmp_path)["trainer"] == "ADAG"


def test_without_a_display_and_without_pyplot(tmp_path):
    environment = {"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], check=True, timeout=60, env=environment)
    assert (tmp_path / "report.png").exists()
