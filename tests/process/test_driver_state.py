"""What the driver's Keras was told travels to the ranks: precision, policy, epsilon, format, seed, and the leave to run stored code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = """
import numpy as np, keras, dkcore as dk
keras.config.set_floatx("float64"); keras.config.set_epsilon(0.25); keras.config.set_image_data_format("channels_first")
keras.config.enable_unsafe_deserialization()
keras.utils.set_random_seed(11)
if keras.backend.backend() == "jax":
    import jax
    jax.config.update("jax_enable_x64", True)
from keras import layers
x = np.random.default_rng(0).normal(size=(24, 2, 3, 3)); y = 1e8 + x.sum((1, 2, 3))[:, None]
def model():
    return keras.Sequential([keras.Input((2, 3, 3)), layers.Conv2D(2, 2), layers.Lambda(lambda v: v * 0.5), layers.Flatten(),
                             layers.Dense(1), layers.Rescaling(1.0, 1e8)])
start = model()
plain = model(); plain.set_weights(start.get_weights())
plain.compile(keras.optimizers.SGD(1e-4), "mse"); plain.fit(x, y, 8, 2, shuffle=False, verbose=0)
trainer = dk.SingleTrainer(start, keras.optimizers.SGD(1e-4), "mse", metrics=[], batch_size=8, num_epoch=2, safe_mode=False)
trained = trainer.train((x, y), shuffle=False)
print(trainer.job.seed, trained.weights[0].dtype, max(float(abs(a - b).max()) for a, b in zip(trained.get_weights(), plain.get_weights())))
"""
POLICY = """
import json, sys, keras
from dkcore.training import keras_state
if len(sys.argv) > 1:
    keras_state.apply(json.loads(sys.argv[1]))
else:
    keras.config.set_floatx("float64"); keras.config.set_dtype_policy("mixed_bfloat16"); keras.config.set_epsilon(0.5)
    keras.config.set_image_data_format("channels_first")
print(json.dumps(keras_state.note()))
"""


def python(code: str, *arguments: str, cwd: Path | None = None, backend: str = "jax") -> str:
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_ranks_compute_as_the_driver_would(tmp_path):
    seed, dtype, difference = python(DRIVER, cwd=tmp_path).split()
    assert (seed, dtype) == ("11", "float64")
    assert float(difference) == 0


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_process_takes_the_state_over(backend):
    noted = json.loads(python(POLICY, backend=backend))
    assert (noted["floatx"], noted["epsilon"], noted["image_data_format"]) == ("float64", 0.5, "channels_first")
    assert noted["dtype_policy"]["config"]["name"] == "mixed_bfloat16"
    assert json.loads(python(POLICY, json.dumps(noted), backend=backend)) == noted
