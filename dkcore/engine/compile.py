"""Kernels: a rule compiled for one dtype, by the C compiler at build time or by numba at run time."""

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dkcore.cache import cache_directory
from dkcore.engine import emit
from dkcore.engine.load import engine
from dkcore.errors import LayoutError, RuleError, expected
from dkcore.formula.rule import Rule
from dkcore.registry import rule_of

__all__ = ["KERNEL", "Kernel", "compile_kernel", "instruction_sets"]

logger = logging.getLogger(__name__)
KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_double))


@dataclass(frozen=True)
class Kernel:
    """Native code of a rule: its address (a dk_kernel or dk_looking of src_ext/dkcore.h), who made it, and what keeps it alive."""

    address: int
    made_by: str
    keep: Any = None

    @property
    def native(self) -> Any:
        """A function of ctypes: (elements, addresses of the vectors, scalars), in the order of the formula. The kernel must outlive it."""
        return KERNEL(self.address)


def instruction_sets() -> list[str]:
    """The instruction sets that were built in and run on this processor, widest first."""
    return engine().instruction_sets()


def compile_kernel(rule: Rule | str, dtype: npt.DTypeLike, via: str | None = None, looking: bool = False) -> Kernel:
    """The kernel of a rule, or of the built-in one of that name, for float32 or float64.

    via: ``"numba"``, the name of an instruction set (``"avx2"``), or None: the C kernel of the widest set for a built-in
    rule, numba for any other. looking: one that stops before NaN and infinity in the worker. RuleError when there is no such kernel.
    """
    name = np.dtype(dtype).name
    if name not in emit.TYPES:
        raise LayoutError(expected("float32 or float64", name, "Other dtypes have no kernels."))
    found = rule_of(rule) if isinstance(rule, str) else rule
    if not isinstance(found, Rule):
        raise RuleError(expected("a rule", repr(found), "Decorate the formula with @dkcore.rule."))
    builtin = emit.builtin().get(found.name)
    if builtin is not None and (builtin.nodes, builtin.outputs) != (found.nodes, found.outputs):
        builtin = None  # one of the same name
    if via == "numba" or (via is None and builtin is None):
        # Keyed by what is computed, not by the name: a notebook defines the same rule again and again.
        return numba_kernel(emit.python_kernel(found, name, looking), name, looking)
    address = engine().find_kernel(builtin.name, name, via, looking) if builtin is not None else 0
    if not address:
        have = ", ".join(["numba", *(instruction_sets() if builtin is not None else [])])
        raise RuleError(expected(f"a kernel of {found.name!r} among: {have}", via, "Pass via=None for the best."))
    return Kernel(address, via or instruction_sets()[0])


@functools.cache
def numba_kernel(source: str, dtype: str, looking: bool = False) -> Kernel:
    """Compile emitted Python. It goes through a file, since numba cannot cache a function made from a string."""
    import numba

    real = numba.from_dtype(np.dtype(dtype))
    returned = numba.types.intp if looking else numba.types.void
    signature = returned(numba.types.intp, numba.types.CPointer(numba.types.CPointer(real)), numba.types.CPointer(numba.float64))
    compiled = functools.partial(numba.cfunc, signature, nopython=True, error_model="numpy")
    try:
        code = compiled(cache=True)(load(source))
    except Exception as error:  # a home that cannot be written, a full disk, a damaged file: then each process compiles for itself
        forget(source)
        logger.warning("The cache of kernels in %s cannot be used, and is not: %s: %s", folder(), type(error).__name__, error)
        namespace: dict[str, Any] = {}
        exec(source, namespace)
        code = compiled(cache=False)(namespace["kernel"])
    return Kernel(code.address, "numba", code)


def folder() -> Path:
    return cache_directory() / "kernels"


def name_of(source: str) -> str:
    return f"dkcore_kernel_{hashlib.sha256(source.encode()).hexdigest()[:16]}"


def forget(source: str) -> None:
    """Remove what the cache has of a source, so that the next process may put it there anew."""
    for file in [folder() / f"{name_of(source)}.py", *(folder() / "__pycache__").glob(f"{name_of(source)}*")]:
        with contextlib.suppress(OSError):  # nobody may write there
            file.unlink()


def load(source: str) -> Callable[..., None]:
    """The function ``kernel`` of a source, imported from a file of the user's cache that many processes may write at once."""
    name = name_of(source)
    path = folder() / f"{name}.py"
    if not path.exists() or path.read_bytes() != source.encode():
        folder().mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        try:
            draft.write_text(source)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # numba looks its functions' modules up by name
    specification.loader.exec_module(module)
    kernel: Callable[..., None] = module.kernel
    return kernel
