"""What holds for every rule, as plain functions: the tests, and anyone who adds a rule, run them over the registry."""

import ctypes
import json

import numpy as np

from dkcore.engine.compile import KERNEL, compile_kernel, instruction_sets
from dkcore.engine.emit import LOOK
from dkcore.engine.merge_formulas import FORMULAS
from dkcore.formula.rule import Rule
from dkcore.rules import REGISTRY

PARTS = sorted(FORMULAS.values(), key=lambda formula: formula.name)  # of merges and of synchronous methods
DTYPES = ("float32", "float64")
RULES = sorted({rule.name: rule for rule in REGISTRY.values()}.values(), key=lambda rule: rule.name)
WAYS = (*instruction_sets(), "numba")
LANES = (2, 4, 8, 16)  # numbers in a register, of either dtype and any instruction set
SIZES = sorted({0, 1, 10_007} | {lanes + by for lanes in LANES for by in (-1, 0, 1)})
LOOKING = ctypes.CFUNCTYPE(ctypes.c_size_t, *KERNEL._argtypes_)
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 1e-310, 3e38, -1e300)


def vectors_of(rule: Rule, dtype: str, size: int, special: bool = True) -> list[np.ndarray]:
    """Random vectors, one for each that the rule names; with NaN, infinities, zeros of both signs and denormals among them."""
    generator = np.random.default_rng(size)
    vectors = [generator.normal(size=size) for _ in rule.vectors]
    if special:
        for vector in vectors:
            chosen = generator.random(size) < 0.3
            vector[chosen] = generator.choice(SPECIAL, size)[chosen]
    with np.errstate(all="ignore"):
        return [vector.astype(dtype) for vector in vectors]


def scalars_of(rule: Rule) -> dict[str, float]:
    """Its defaults, and numbers that no binary fraction equals for the others."""
    return {name: rule.defaults.get(name, 1.1 * (index + 2)) for index, name in enumerate(rule.scalars)}


def reference(rule: Rule, vectors: list[np.ndarray], scalars: dict[str, float]) -> list[np.ndarray]:
    """All vectors after the pass, as numpy computes them and the engine must leave them: p is the new worker."""
    with np.errstate(all="ignore"):
        new = dict(zip(rule.outputs, rule(*vectors, **scalars), strict=True))
    if "p" in rule.vectors:
        new["p"] = new["w"]
    return [new.get(name, vector) for name, vector in zip(rule.vectors, vectors, strict=True)]


def run(address: int, vectors: list[np.ndarray], scalars: dict[str, float]) -> list[np.ndarray]:
    """All vectors after a native kernel ran on copies of them."""
    copies = [vector.copy() for vector in vectors]
    KERNEL(address)(copies[0].size, pointers(copies), numbers(scalars))
    return copies


def pointers(arrays: list[np.ndarray]) -> ctypes.Array:
    """The second argument of a kernel."""
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def numbers(scalars: dict[str, float]) -> ctypes.Array:
    """And the third."""
    return (ctypes.c_double * max(len(scalars), 1))(*scalars.values())


def assert_same_bits(found: list[np.ndarray], wanted: list[np.ndarray], names: tuple[str, ...]) -> None:
    """Equal bit for bit, zeros with their signs; NaN where NaN is, whatever its payload."""
    for name, one, two in zip(names, found, wanted, strict=True):
        assert one.dtype == two.dtype, f"{name}: {one.dtype} is not {two.dtype}"
        bits = f"u{one.itemsize}"
        differ = (one.view(bits) != two.view(bits)) & ~(np.isnan(one) & np.isnan(two))
        assert not differ.any(), f"{name}: {one[differ][:3]} is not {two[differ][:3]}"


def kernel_equals_numpy(rule: Rule, dtype: str, way: str) -> None:
    """The native kernel (an instruction set, or numba) computes what the formula does, on any number of elements."""
    address = compile_kernel(rule, dtype, way).address
    for size in SIZES:
        vectors, scalars = vectors_of(rule, dtype, size), scalars_of(rule)
        assert_same_bits(run(address, vectors, scalars), reference(rule, vectors, scalars), rule.vectors)


def looking_kernel_equals_numpy(rule: Rule, dtype: str, way: str) -> None:
    """One that looks at the worker does the same up to what is not finite: it stops before, but not far before."""
    address = compile_kernel(rule, dtype, way, looking=True).address
    for size in SIZES:
        vectors, scalars = vectors_of(rule, dtype, size), scalars_of(rule)
        worker = vectors[rule.vectors.index("w")]
        worker[: size // 2] = np.arange(size // 2)  # finite
        places = [vector.copy() for vector in vectors]
        bad = np.flatnonzero(~np.isfinite(worker))
        done = LOOKING(address)(size, pointers(places), numbers(scalars))
        first = bad[0] if bad.size else size
        assert done == first if not bad.size else done <= first < done + LOOK
        head = [vector[:done] for vector in vectors]
        assert_same_bits([place[:done] for place in places], reference(rule, head, scalars), rule.vectors)
        assert_same_bits([place[done:] for place in places], [vector[done:] for vector in vectors], rule.vectors)


def replay_equals_formula(rule: Rule, dtype: str) -> None:
    """A rule that travelled as JSON, without its source, computes what the formula does."""
    copy = Rule.from_dict(json.loads(json.dumps(rule.to_dict())))
    assert copy.formula is None
    assert (copy.vectors, copy.scalars, copy.defaults, copy.doc) == (rule.vectors, rule.scalars, rule.defaults, rule.doc)
    vectors, scalars = vectors_of(rule, dtype, 1000), scalars_of(rule)
    assert_same_bits(reference(copy, vectors, scalars), reference(rule, vectors, scalars), rule.vectors)


def agreement_is_a_fixed_point(rule: Rule, dtype: str) -> None:
    """Where worker, previous and center agree, and state is zero, nothing moves."""
    center = vectors_of(rule, dtype, 1000, special=False)[0]
    vectors = [np.zeros_like(center) if name in rule.states else center for name in rule.vectors]
    for name, new in zip(rule.vectors, reference(rule, vectors, scalars_of(rule)), strict=True):
        np.testing.assert_array_equal(new, 0 if name in rule.states else center)


def engine_equals_reference(rule: Rule, center, w: np.ndarray, p: np.ndarray | None) -> None:
    """An exchange changes center, worker and state as the formula says, and leaves p = w."""
    states = [center.snapshot(state=k + 1) for k in range(center.states)]
    scalars = scalars_of(rule) | {name: 1.0 for name in ("workers",) if name in rule.scalars}
    scalars |= {name: 0.0 for name in ("staleness",) if name in rule.scalars}
    before = dict(zip(rule.states, states, strict=True)) | {"c": center.snapshot(), "w": w.copy()}
    if p is not None:
        before["p"] = p.copy()
    wanted = reference(rule, [before[name] for name in rule.vectors], scalars)
    given = {name: value for name, value in scalars.items() if name not in ("staleness", "workers")}
    center.exchange(rule, w, p, **given)
    after = {"c": center.snapshot(), "w": w, "p": p} | {name: center.snapshot(state=k + 1) for k, name in enumerate(rule.states)}
    assert_same_bits([after[name] for name in rule.vectors], wanted, rule.vectors)
    if p is not None:
        assert_same_bits([p], [w], ("p",))
