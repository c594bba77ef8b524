"""The training data of a job: arrays in files that all ranks map.

    write(job / "data", {"x_train": x, "y_train": y})                          # the front, once
    shard = Shard(job / "data", rank, size)                                    # each rank: dkcore.data.shard
    model.fit(dataset(shard, "jax", 32), shuffle=False, ...)                   # dkcore.data.batches; it shuffles itself

x, y and sample weights are arrays, or dicts, lists and tuples of arrays for models with several inputs or outputs.
"""

import json
import mmap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import numpy as np

from dkcore.arrays import Array
from dkcore.data.arrow_columns import Pieces, open_pieces
from dkcore.data.npz import KEYS, PARTS, ROLES, open_npz
from dkcore.errors import DataError, expected

__all__ = ["KEYS", "checked", "first_leaf", "leaves", "map_arrays", "open_npz", "read", "write"]

SIDECAR = "arrays.json"

Nested: TypeAlias = Any  # an array, None, or a dict, list or tuple of Nested


def write(directory: Path | str, arrays: Mapping[str, Nested]) -> None:
    """Store training data so that ranks can map it.

    arrays: x_train, and as far as there are any y_train, sample_weight_train, x_test, y_test, sample_weight_test. None is as
    good as absent. Arrays that are mapped from a file already (`open_npz`, ``numpy.load(..., mmap_mode="r")``) are not copied:
    the directory refers to their file, which has to stay. DataError names what cannot be trained on.
    """
    directory = Path(directory)
    parts = checked(arrays)
    directory.mkdir(parents=True, exist_ok=True)
    files: list[Place] = []

    def store(path: str, leaf: Array) -> int:
        key = next(key for key in KEYS if path.startswith(key))
        files.append(place(directory, f"{key}-{len(files)}.npy", leaf))
        return len(files) - 1

    structure = {key: map_arrays(store, value, key) for key, value in parts.items()}
    (directory / SIDECAR).write_text(json.dumps({"structure": structure, "files": files}, indent=1))


def read(directory: Path | str) -> dict[str, Nested]:
    """The arrays that `write` stored, mapped; tuples come back as lists. What is written to them stays in this process."""
    directory = Path(directory)
    if not (directory / SIDECAR).exists():
        raise DataError(expected(f"training data in {directory}", "no arrays.json", "dkcore.data.arrays.write stores it."))
    content = json.loads((directory / SIDECAR).read_text())
    if "pieces" in content:
        return read_pieces(content)

    def mapped(path: str, index: int) -> np.memmap:
        file, dtype, offset, shape = (content["files"][index][name] for name in ("file", "dtype", "offset", "shape"))
        try:
            # Copy-on-write: frameworks refuse read-only memory, and nobody shall change the file.
            return np.memmap(directory / file, dtype, "c", offset, tuple(shape))
        except (OSError, ValueError) as error:
            what = f"{path} in {directory / file}"
            raise DataError(expected(what, error, "Files of a job must stay where they are.")) from error

    return {key: map_arrays(mapped, value, key) for key, value in content["structure"].items()}


def read_pieces(content: Mapping[str, Any]) -> dict[str, Nested]:
    """The columns of the pieces that `dkcore.data.arrow_columns.describe` wrote down."""
    parts = {part: open_pieces(content["pieces"][part], content["columns"]) for part in PARTS if part in content["pieces"]}
    names = {key: (name, key.rpartition("_")[2]) for key, name in content["structure"].items()}

    def column_of(part: str) -> Callable[[str, str], Pieces]:
        return lambda _, name: parts[part][name]

    return {key: map_arrays(column_of(part), name, key) for key, (name, part) in names.items()}


class Place(TypedDict):
    """Where an array lies in a file."""

    file: str
    dtype: str
    offset: int
    shape: tuple[int, ...]


def place(directory: Path, name: str, array: Array) -> Place:
    """Where an array lies in a file; it is saved to one if it does not yet."""
    # A view of a mapping carries its filename and offset too, but not the right ones: its base is another array.
    whole = type(array) is np.memmap and isinstance(array.base, mmap.mmap) and array.filename is not None
    if isinstance(array, np.memmap) and whole and array.mode == "r" and array.flags.c_contiguous:
        mapped = array
    else:
        np.save(directory / name, np.ascontiguousarray(array), allow_pickle=False)
        mapped = np.load(directory / name, mmap_mode="r")
    file = Path(str(mapped.filename)).resolve()
    name = file.name if file.parent == directory.resolve() else str(file)
    return {"file": name, "dtype": mapped.dtype.str, "offset": mapped.offset, "shape": mapped.shape}


def map_arrays(function: Callable[[str, Any], Any], nested: Nested, path: str) -> Nested:
    """The same structure with ``function(path, leaf)`` at each leaf; None stays None."""
    if nested is None:
        return None
    if isinstance(nested, Mapping):
        return {key: map_arrays(function, value, f"{path}.{key}") for key, value in nested.items()}
    if isinstance(nested, list | tuple):
        return [map_arrays(function, value, f"{path}[{index}]") for index, value in enumerate(nested)]
    return function(path, nested)


def leaves(nested: Nested, path: str = "") -> list[tuple[str, Any]]:
    """The leaves of a structure in their order, each with its path."""
    found: list[tuple[str, Any]] = []
    map_arrays(lambda path, leaf: found.append((path, leaf)), nested, path)
    return found


def first_leaf(nested: Nested) -> Array | Pieces:
    leaf: Array | Pieces = leaves(nested)[0][1]
    return leaf


def checked(arrays: Mapping[str, Nested]) -> dict[str, Nested]:
    """The parts that are there, their leaves as arrays of numbers in this machine's byte order; DataError otherwise."""
    if unknown := [key for key in arrays if key not in KEYS]:
        raise DataError(expected(f"keys of {', '.join(KEYS)}", unknown, "Name the arrays so."))
    parts = {key: map_arrays(as_numbers, arrays[key], key) for key in KEYS if arrays.get(key) is not None}
    for part in PARTS:
        keys = [key for key in parts if key.endswith(f"_{part}")]
        lengths = {path: len(leaf) for key in keys for path, leaf in leaves(parts[key], key)}
        if len(set(lengths.values())) > 1:
            raise DataError(expected("arrays of one length", lengths, "The first axis of each array is the sample."))
        needed = [f"{name}_{part}" for name in ROLES][: len(keys)]
        if (part == "train" and not keys) or needed != keys:
            raise DataError(expected(" and ".join(needed) or "x_train", keys or "none", "Weights need targets, targets samples."))
    return parts


def as_numbers(path: str, leaf: Any) -> Array | Pieces:
    """The leaf as an array of integers, floats or booleans; DataError otherwise."""
    if isinstance(leaf, Pieces):
        return leaf
    if not hasattr(leaf, "__array__"):
        raise DataError(expected(f"an array at {path}", type(leaf).__name__, "Convert it with numpy.asarray."))
    array = np.asanyarray(leaf)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        advice = "Convert it, for instance with .astype('float32')."
        raise DataError(expected(f"integers, floats or booleans at {path}", f"dtype {array.dtype}", advice))
    if array.ndim == 0 or array.size == 0:
        raise DataError(expected(f"one sample or more at {path}", f"shape {array.shape}", "The first axis is the sample."))
    native: Array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native
