"""What lets a rank start sooner: compiled code that is kept, packages that nobody needs."""

import os
import subprocess
import sys

import numpy as np
import pytest

from dkcore import frameworks
from dkcore.training.job import Job

MODEL = """
import keras

def model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
"""


def train(tmp_path, name: str) -> None:
    """A job of one rank on JAX."""
    (tmp_path / "model.py").write_text(MODEL)
    options = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "backend": "jax", "rule": "single", "workers": 1}
    job = Job(model=f"{tmp_path}/model.py:model", window=2, batch_size=4, **options)
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    job.save(tmp_path / name, {"x_train": x, "y_train": (x[:, 0] > 0).astype(np.int64)})
    job.launch()


def test_what_jax_compiled_for_one_job_serves_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    train(tmp_path, "one")
    folder = tmp_path / "cache/dkcore/jax" / frameworks.processor()
    first = {path.name: path.stat().st_mtime_ns for path in folder.glob("*-cache")}
    assert any("step" in name for name in first), first
    train(tmp_path, "two")
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*-cache")} == first
    for path in folder.glob("*-cache"):
        path.write_bytes(path.read_bytes()[:100])
    train(tmp_path, "three")  # what is damaged is compiled anew


def test_who_has_a_folder_for_compiled_code_keeps_it():
    environment = {"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}
    frameworks.keep_compiled(environment)
    assert environment == {"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}


def test_without_a_home_that_can_be_written_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    environment: dict[str, str] = {}
    frameworks.keep_compiled(environment)
    assert environment == {}


def test_code_for_one_processor_is_not_kept_for_another(tmp_path, monkeypatch):
    names = []
    for flags, clock in (("fpu avx2", 2000), ("fpu avx2", 3000), ("fpu avx2 avx512f", 2000)):
        (tmp_path / "cpuinfo").write_text(f"model name\t: Some\nflags\t\t: {flags}\ncpu MHz\t\t: {clock}\n\n" * 2)
        monkeypatch.setattr(frameworks, "PROCESSOR", tmp_path / "cpuinfo")
        names.append(frameworks.processor())
    assert names[0] == names[1] != names[2]


def test_packages_are_absent_only_meanwhile_and_only_if_nobody_has_them(tmp_path, monkeypatch):
    (tmp_path / "planted_package.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with frameworks.block_imports("planted_package", "numpy"):
        import numpy  # noqa: F401 - it is imported already

        with pytest.raises(ImportError):
            import planted_package
    import planted_package  # noqa: F401

    del sys.modules["planted_package"]


def test_keras_does_without_plots_and_frames():
    code = "import sys; from dkcore.frameworks import block_imports\nwith block_imports('matplotlib', 'pandas'): import keras\n"
    code += "print([name for name in ('matplotlib', 'pandas') if name in sys.modules])"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
