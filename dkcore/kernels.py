"""Kernels: a rule compiled for one dtype, by the C compiler at build time or by numba at run time."""

import functools
import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dkcore import emit
from dkcore.cache import cache_directory
from dkcore.engine import engine
from dkcore.errors import LayoutError, RuleError, expected
from dkcore.rule import Rule

__all__ = ["Kernel", "compile_kernel", "instruction_sets"]


@dataclass(frozen=True)
class Kernel:
    """Native code of a rule: its address (a dk_kernel of src_ext/dkcore.h), who made it, and what keeps it alive."""

    address: int
    made_by: str
    keep: Any = None


def instruction_sets() -> list[str]:
    """The instruction sets that were built in and run on this processor, widest first."""
    return engine().instruction_sets()


def compile_kernel(rule: Rule, dtype: np.dtype | type | str, via: str | None = None) -> Kernel:
    """The kernel of a rule for float32 or float64.

    via: ``"numba"``, the name of an instruction set (``"avx2"``), or None: the C kernel of the widest set for a built-in
    rule, numba for any other. RuleError when there is no such kernel.
    """
    name = np.dtype(dtype).name
    if name not in emit.TYPES:
        raise LayoutError(expected("float32 or float64", name, "Other dtypes have no kernels."))
    if not isinstance(rule, Rule):
        raise RuleError(expected("a rule", repr(rule), "Decorate the formula with @dkcore.rule."))
    builtin = emit.builtin().get(rule.name)
    is_builtin = builtin is not None and (builtin.nodes, builtin.outputs) == (rule.nodes, rule.outputs)
    if via == "numba" or (via is None and not is_builtin):
        # Keyed by what is computed, not by the name: a notebook defines the same rule again and again.
        return numba_kernel(emit.python_kernel(rule, name), name)
    address = engine().find_kernel(builtin.name, name, via) if is_builtin else 0
    if not address:
        have = ", ".join(["numba", *(instruction_sets() if is_builtin else [])])
        raise RuleError(expected(f"a kernel of {rule.name!r} among: {have}", via, "Pass via=None for the best."))
    return Kernel(address, via or instruction_sets()[0])


@functools.cache
def numba_kernel(source: str, dtype: str) -> Kernel:
    """Compile emitted Python. It goes through a file, since numba cannot cache a function made from a string."""
    import numba

    real = numba.from_dtype(np.dtype(dtype))
    signature = numba.types.void(numba.types.intp, numba.types.CPointer(numba.types.CPointer(real)), numba.types.CPointer(numba.float64))
    try:
        function, cached = load(source), True
    except OSError:  # a home that cannot be written, as executors have: compiled anew in each process, then
        namespace: dict = {}
        exec(source, namespace)
        function, cached = namespace["kernel"], False
    code = numba.cfunc(signature, nopython=True, cache=cached, error_model="numpy")(function)
    return Kernel(code.address, "numba", code)


def load(source: str) -> Callable:
    """The function ``kernel`` of a source, imported from a file of the user's cache that many processes may write at once."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    name = f"dkcore_kernel_{digest}"
    folder = cache_directory() / "kernels"
    path = folder / f"{name}.py"
    if not path.exists() or path.read_text() != source:
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(source)
        draft.replace(path)
    specification = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # numba looks its functions' modules up by name
    specification.loader.exec_module(module)
    return module.kernel
