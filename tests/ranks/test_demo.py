"""What ``make demo`` runs, on few images."""

import subprocess
import sys
from pathlib import Path

import numpy as np

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def test_the_demo_trains_all_three_and_says_where_the_plots_are(tmp_path):
    rng, data = np.random.default_rng(0), tmp_path / "few.npz"
    images, labels = rng.integers(0, 256, (240, 28, 28), np.uint8), rng.integers(0, 10, 240, np.uint8)
    np.savez(data, x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])
    command = [sys.executable, str(DEMO), "--out", "demo", "--data", str(data), "--epochs", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.replace("│", " ").split() for line in done.stdout[done.stdout.rindex("┏") :].splitlines()]
    assert [row[:2] for row in rows if len(row) > 5 and row[1] in "12"] == [["SingleTrainer", "1"], ["ADAG", "2"], ["AEASGD", "2"]]
    files = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "demo").glob("*/*")}
    for trainer in ("singletrainer", "adag", "aeasgd"):
        assert {f"demo/{trainer}/{name}" for name in ("model.keras", "history.parquet", "report.json", "report.png")} <= files
    assert "plots: demo/adag/report.png demo/aeasgd/report.png" in done.stdout
