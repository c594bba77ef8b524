"""The random generators that a process has for itself: of Python, of numpy, and of torch, from which its dropout draws."""

import random
import sys

import numpy as np

from dkcore.arrays import Array

__all__ = ["copy_of", "restore"]

PYTHON, NUMPY, TORCH = "random-python", "random-numpy", "random-torch"


def copy_of() -> dict[str, Array]:
    """Their states."""
    _, keys, place, gauss, cached = np.random.get_state(legacy=True)
    numbers = np.array([*keys, place, gauss], np.uint64), np.array([cached])
    arrays = {PYTHON: np.array(random.getstate()[1], np.uint64), NUMPY: numbers[0], f"{NUMPY}-gauss": numbers[1]}
    if (torch := sys.modules.get("torch")) is not None:
        arrays[TORCH] = torch.get_rng_state().numpy().copy()
    return arrays


def restore(arrays: dict[str, Array]) -> None:
    """Put back the states that were saved."""
    *keys, place, gauss = arrays[NUMPY].tolist()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), place, gauss, float(arrays[f"{NUMPY}-gauss"][0])))
    random.setstate((3, tuple(arrays[PYTHON].tolist()), None))
    torch = sys.modules.get("torch")
    if torch is not None and TORCH in arrays:
        torch.set_rng_state(torch.from_numpy(arrays[TORCH].copy()))
