"""A replica: a Keras model's weights as native segments in a fixed order. The only file that asks which backend runs.

Which weights: all of dtype float32, or all float64, of ``model.weights`` in its order, but that what no optimizer moves comes
last: statistics, as batch norm's moving mean and variance. Seeds and integers are not exchanged.

How they are reached is a *level*, the best that proves itself on this machine and these versions:

| backend | 1 | 2 | 3 |
|---|---|---|---|
| tensorflow | ``tensorflow-op`` | ``tensorflow-alias`` | ``assign`` |
| jax | ``jax-pointer`` | ``jax-step`` | ``assign`` |
| torch | ``torch-pointer`` | ``assign`` | |
"""

import hashlib
import importlib
import logging
from typing import Any

import keras
import numpy as np

from dkcore.arrays import Array
from dkcore.errors import LayoutError, ModelError, expected
from dkcore.frameworks import BACKENDS
from dkcore.replica.level import Level, PreparedCall
from dkcore.replica.probe import prove

__all__ = ["Replica"]

WHOLE = ("bool", "int", "uint")  # the dtypes that stay at home begin so

logger = logging.getLogger(__name__)


class Replica:
    """One worker's weights, inside ``fit`` and outside of it.

    Args:
        model: a built Keras model, the one on which ``fit`` is called.
        level: take this level instead of the best that works.

    Attributes:
        size: number of floating-point weights.
        dtype: ``np.float32`` or ``np.float64``.
        layout: (path, shape) of each variable, in the order of the center.
        statistics: number of weights, the last ones, that were made to be not trainable. Whether a layer is frozen does not matter.
        digest: 64 bits of dtype, names, shapes and statistics, never 0: equal on all ranks that can share a center.
        level: the name of the level in use.
        backend: ``"tensorflow"``, ``"jax"`` or ``"torch"``.

    Raises:
        ModelError: no Keras model, not built, no floating-point weights, half precision, two precisions, an unknown
            backend or level, or the level asked for does not work here.
        MissingError: level ``"tensorflow-op"`` was asked for and is not compiled.
    """

    def __init__(self, model: Any, *, level: str | None = None) -> None:
        self.backend = keras.backend.backend()
        if self.backend not in BACKENDS:
            raise ModelError(expected(f"a Keras backend of {BACKENDS}", self.backend, "Set KERAS_BACKEND."))
        if not isinstance(model, keras.Model) or not model.built:
            received = "one that is not built" if isinstance(model, keras.Model) else type(model).__name__
            raise ModelError(expected("a built Keras model", received, "Call model.build(input_shape) first."))
        if self.backend == "jax":
            model.jax_state_sync()  # a replica that is made inside fit finds its variables empty otherwise
        self.model = model
        variables, self.dtype = floating(model)
        self.layout = [(variable.path, tuple(variable.shape)) for variable in variables]
        self.statistics = sum(int(np.prod(variable.shape)) for variable in still(model, variables))
        self.digest = digest(self.dtype, variables, self.statistics)
        self._level = self._choose(level, variables)
        self.level, self.size = self._level.name, self._level.size
        logger.info("%d weights in %d variables on %s: %s", self.size, len(variables), self.backend, self.level)

    def _choose(self, wanted: str | None, variables: list[Any]) -> Level:
        backend = importlib.import_module(f"dkcore.replica.{self.backend}")
        levels = [level for level in backend.LEVELS if wanted in (None, level.name)]
        if not levels:
            names = [level.name for level in backend.LEVELS]
            raise ModelError(expected(f"a level of {names} on {self.backend}", wanted, "Leave it out for the best."))
        for level in levels:
            try:
                chosen: Level = level(self.model, variables)
                prove(level, backend.Spare, np.dtype(self.dtype))
                return chosen
            except Exception as error:  # whatever a version of a framework may do: the next level does without it
                if level is levels[-1]:
                    raise
                logger.warning("%s does not work here, so weights take a slower way: %s", level.name, error)
        raise AssertionError("the loop returns or raises")

    def run(self, call: PreparedCall) -> None:
        """Run a prepared call (``worker.call`` or ``worker.pull_call``) on the model's own weights.

        Inside ``fit`` the next step sees the result, bit for bit as if it had been assigned.

        Raises:
            DkcoreError: what the call raises: `NotFiniteError`, `StripeTimeoutError`.
        """
        self._level.run(call)

    def read(self, out: Array | None = None) -> Array:
        """A copy of all weights.

        Args:
            out: a flat array of ``size`` elements of ``dtype`` to fill; a new one by default.

        Raises:
            LayoutError: ``out`` has another shape or dtype.
        """
        out = np.empty(self.size, self.dtype) if out is None else self._checked(out)
        self._level.read(out)
        return out

    def write(self, flat: Array) -> None:
        """Assign all weights. The array is copied, so it may be a view of the center.

        Args:
            flat: ``size`` elements of ``dtype``.

        Raises:
            LayoutError: ``flat`` has another shape or dtype.
        """
        self._level.write(self._checked(flat))

    def _checked(self, flat: Array) -> Array:
        if not isinstance(flat, np.ndarray) or flat.shape != (self.size,) or flat.dtype != self.dtype:
            received = f"{getattr(flat, 'dtype', type(flat).__name__)} of shape {getattr(flat, 'shape', None)}"
            what = f"a flat array of {self.size} {np.dtype(self.dtype).name}"
            raise LayoutError(expected(what, received, "replica.read() returns such an array."))
        return flat

    def steps(self) -> int | None:
        """How many batches the optimizer has truly seen; None before ``compile``.

        With accumulated gradients that is more than ``optimizer.iterations``, which counts updates: a window is of batches.
        """
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is None:
            return None
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
        return self._level.count(optimizer._iterations)


def floating(model: Any) -> tuple[list[Any], type[np.floating[Any]]]:
    """The variables that are exchanged, and their one dtype."""
    found: dict[str, list[Any]] = {}
    for variable in model.weights:
        # The value's dtype is the truth: JAX without x64 makes float32 of a variable that says float64.
        found.setdefault(keras.backend.standardize_dtype(variable.value.dtype), []).append(variable)
    floats = {name: several for name, several in found.items() if not name.startswith(WHOLE)}
    for name, several in floats.items():
        if name not in ("float32", "float64"):
            help = "Train in float32; for mixed precision use keras.mixed_precision, whose weights are float32."
            raise ModelError(expected("weights of float32 or float64", f"{several[0].path} of {name}", help))
    if len(floats) > 1:
        received = ", ".join(f"{several[0].path} of {name}" for name, several in floats.items())
        raise ModelError(expected("weights of one dtype", received, "Give all layers one dtype policy."))
    variables = [v for several in floats.values() for v in several if np.prod(v.shape) > 0]
    last = {id(variable) for variable in still(model, variables)}
    variables.sort(key=lambda variable: id(variable) in last)
    if not variables:
        received = f"{len(model.weights)} weights, of which 0 floating-point elements"
        raise ModelError(expected("a model with floating-point weights", received, "Add a layer with weights."))
    return variables, np.dtype(next(iter(floats))).type


def still(model: Any, variables: list[Any]) -> list[Any]:
    """Those variables that were made with ``trainable=False``. The flag itself changes when a layer is frozen or thawed, at any time."""
    moving = {id(variable) for layer in model._flatten_layers() for variable in layer._trainable_variables}
    return [variable for variable in variables if id(variable) not in moving]


def digest(dtype: type[np.floating[Any]], variables: list[Any], statistics: int) -> int:
    """64 bits of a layout. Layers' names are left out: Keras numbers them by what else a process has built before."""
    lines = [np.dtype(dtype).name, str(statistics), *(f"{variable.name} {tuple(variable.shape)}" for variable in variables)]
    return int.from_bytes(hashlib.blake2b("\n".join(lines).encode(), digest_size=8).digest(), "big") or 1
