"""Whether a model takes data of these shapes, before the first step: what it expects, what it receives, what to change."""

import math
import re
from typing import Any

import keras
import numpy as np
from keras.src import backend  # what fit itself calls to build loss and metrics; Keras exports no name for it

from dkcore.errors import DataError, ModelError, expected, first_line, one_line

__all__ = ["check_declared", "flat_shapes", "shapes_text", "symbolic_outputs"]

Shape = tuple[int | None, ...]  # of one sample
AN_AXIS_LESS = re.compile(r"expected (?:min_)?ndim=(\d+), found ndim=(\d+)")  # Keras' words for it


def check_declared(model: keras.Model, x: Any) -> None:
    """DataError when a model that declares the shapes of its inputs cannot be called on samples of x, an array or a nest of them.

    Costs nothing where the shapes are equal. Where they are not Keras decides: it adds or drops a last axis of size 1 by itself.
    """
    wanted, came = flat_shapes(getattr(model, "input_shape", None)), flat_shapes(x)
    if wanted and not (len(wanted) == len(came) and all(map(fits, came, wanted))):
        symbolic_outputs(model, x)


def symbolic_outputs(model: keras.Model, x: Any) -> Any:
    """The outputs of the model for samples of x, without any number. DataError when it does not take them, ModelError when it fails."""
    try:
        return backend.compute_output_spec(model, keras.tree.map_structure(symbol, x), training=False)
    except Exception as error:  # whatever a layer may raise on such an input
        wanted, came = flat_shapes(getattr(model, "input_shape", None)), flat_shapes(x)
        if wanted and wanted == came:
            advice = "Call it on a batch of x, to see where it fails."
            raise ModelError(expected("a model that can be called", one_line(error), advice)) from error
        what = f"samples of {shapes_text(wanted) if wanted else 'the shape that the model takes'}"
        advice = what_to_change(wanted, came, str(error)) or f"The model says: {first_line(error)}."
        raise DataError(expected(what, f"x of {shapes_text(came)}", advice)) from error


def symbol(leaf: Any) -> keras.KerasTensor:
    """An array as the model will see it: floats of any precision become Keras' own."""
    dtype = keras.config.floatx() if np.dtype(leaf.dtype).kind == "f" else keras.backend.standardize_dtype(leaf.dtype)
    return keras.KerasTensor((None, *leaf.shape[1:]), dtype)


def what_to_change(wanted: list[Shape], came: list[Shape], words: str) -> str:
    """Advice; empty where there is none better than what the model says."""
    if wanted and len(wanted) != len(came):
        return f"The model has {len(wanted)} input{'s' * (len(wanted) > 1)}: pass as many arrays, as a list, or a dict by their names."
    if not wanted:
        found = AN_AXIS_LESS.search(words)
        return "Add an axis: x[..., None]." if found and int(found[1]) == int(found[2]) + 1 else ""
    there, here = next((pair for pair in zip(wanted, came, strict=True) if not fits(pair[1], pair[0])), (wanted[0], came[0]))
    return next((advice for shape, advice in changes(here, there) if fits(shape, there)), "")


def changes(here: Shape, there: Shape) -> list[tuple[Shape, str]]:
    """What can be done to samples of a shape so that they have another one, and the shape that each comes to; the simplest first."""
    found = [((*here, 1), "Add an axis: x[..., None]."), ((1, *here), "Add an axis: x[:, None].")]
    if there and there[-1]:
        found.append(((*here, there[-1]), f"Add an axis: np.repeat(x[..., None], {there[-1]}, axis=-1)."))
    if here[-1:] == (1,):
        found.append((here[:-1], "Drop the last axis: x[..., 0]."))
    if here:
        found.append(((here[-1], *here[:-1]), "Move the channels to the front: np.moveaxis(x, -1, 1)."))
        found.append(((*here[1:], here[0]), "Move the channels to the end: np.moveaxis(x, 1, -1)."))
    if elements(there) is not None and elements(here) == elements(there):
        found.append((there, f"Reshape it: x.reshape({', '.join(map(str, (-1, *there)))})."))
    return found


def elements(shape: Shape) -> int | None:
    """How many numbers a sample of a shape has; None where an axis may have any length."""
    sizes = [size for size in shape if size is not None]
    return math.prod(sizes) if len(sizes) == len(shape) else None


def fits(came: Shape, wanted: Shape) -> bool:
    return len(came) == len(wanted) and all(size is None or size == other for size, other in zip(wanted, came, strict=True))


def flat_shapes(nested: Any) -> list[Shape]:
    """The shapes of samples, of arrays or of shapes that include the axis of samples, in whatever nest."""
    if hasattr(nested, "shape"):
        return [tuple(nested.shape[1:])]
    if isinstance(nested, tuple) and all(size is None or isinstance(size, int) for size in nested):
        return [nested[1:]]
    parts = nested.values() if isinstance(nested, dict) else nested or []
    return [shape for part in parts for shape in flat_shapes(part)]


def shapes_text(shapes: list[Shape]) -> str:
    return ", ".join(f"shape {shape}" for shape in shapes)
