"""Types of numpy arrays, for annotations."""

from typing import Any, TypeAlias

import numpy as np

__all__ = ["Array", "Floats"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]  # of any dtype
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
