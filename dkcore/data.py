"""The training data of a job: arrays in files that all ranks map, and the shard of them that one rank trains on.

    write(job / "data", {"x_train": x, "y_train": y})                          # the front, once
    shard = Shard(job / "data", rank, size)                                    # each rank
    model.fit(shard.dataset("jax", batch_size=32), shuffle=False, ...)         # it shuffles itself

x, y and sample weights are arrays, or dicts, lists and tuples of arrays for models with several inputs or outputs.
"""

import json
import mmap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dkcore.errors import DataError, expected
from dkcore.npz import open_npz
from dkcore.pieces import Pieces, open_pieces

__all__ = ["KEYS", "Shard", "open_npz", "read", "write"]

PARTS = ("train", "test")
KEYS = tuple(f"{name}_{part}" for part in PARTS for name in ("x", "y", "sample_weight"))
SIDECAR = "arrays.json"

Nested = Any  # an array, None, or a dict, list or tuple of Nested


class Shard:
    """One rank's part of the data: one of each ``size`` neighbouring samples. It maps files and copies nothing.

    Args:
        source: the directory of `write`, or its arrays; those may be `dkcore.pieces.Pieces`, and then be empty.
        rank, size: of this worker, of all workers.
        part: ``"train"`` or ``"test"``.

    Attributes:
        arrays: ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)``, of the samples of all ranks.
        samples: how many are this rank's; the ranks' numbers differ by one at most.

    Raises:
        DataError: no such arrays, or fewer samples than ranks.
    """

    def __init__(self, source: Path | str | Mapping[str, Nested], rank: int = 0, size: int = 1, *, part: str = "train"):
        parts = checked(source) if isinstance(source, Mapping) else read(source)
        keys = [key for key in KEYS if key.endswith(f"_{part}") and key in parts]
        if not keys:
            raise DataError(expected(f"x_{part}", list(parts), "It was not among the arrays that were written."))
        self.arrays = tuple(map_arrays(plain, parts[key], key) for key in keys)
        if not 0 <= rank < size:
            raise ValueError(expected(f"a rank of 0 to {size - 1}", rank, "size is the number of workers."))
        self.rank, self.size = rank, size
        self.total = len(first_leaf(self.arrays))
        if self.total < size and not isinstance(first_leaf(self.arrays), Pieces):  # an executor may have had no rows
            raise DataError(expected(f"a sample for each of {size} workers", f"{self.total} samples", "Use fewer workers."))
        self.samples = len(range(rank, self.total, size))

    def steps(self, batch_size: int) -> int:
        """Batches an epoch, the last, partial one included."""
        if batch_size < 1:
            raise DataError(expected("a batch size of 1 or more", batch_size, "Pass batch_size=32."))
        return -(-self.samples // batch_size)

    def rows(self, epoch: int = 0, *, shuffle: bool = True, seed: int = 0) -> np.ndarray:
        """The samples of this rank in the order of an epoch, each once: int64 indices into `arrays`.

        Without shuffling they are every ``size``-th from ``rank`` on. With it the ranks turn about, anew for each neighbourhood
        and epoch: in MNIST's file every other digit was written by another group of people, and is harder. The epochs of all
        ranks, which need not be at the same time, still make up the whole.
        """
        rows = np.arange(self.rank, self.total, self.size)
        if not shuffle:
            return rows
        whole = self.total // self.size  # neighbourhoods; the ranks of the last one that is not whole keep their places
        turns = np.random.default_rng([seed, epoch]).integers(self.size, size=whole)
        rows[:whole] += (self.rank + turns) % self.size - self.rank
        return np.random.default_rng([seed, epoch, self.rank]).permutation(rows)

    def dataset(self, backend: str, batch_size: int, *, shuffle: bool = True, seed: int = 0, scale: float | None = None):
        """What to hand to ``fit`` or ``evaluate``: a ``tf.data.Dataset`` for TensorFlow, a ``keras.utils.PyDataset`` otherwise.

        Every sample comes once an epoch, in a new order each time; give ``shuffle=False`` to ``fit``, which would complain.
        Floats become Keras' ``floatx``; whole numbers stay as they are. scale: x becomes ``floatx`` and is multiplied by it.
        """
        from dkcore import batches

        self.steps(batch_size)
        make = batches.tensorflow_dataset if backend == "tensorflow" else batches.Batches
        return make(self, batch_size, shuffle, seed, scale)


def write(directory: Path | str, arrays: Mapping[str, Nested]) -> None:
    """Store training data so that ranks can map it.

    arrays: x_train, and as far as there are any y_train, sample_weight_train, x_test, y_test, sample_weight_test. None is as
    good as absent. Arrays that are mapped from a file already (`open_npz`, ``numpy.load(..., mmap_mode="r")``) are not copied:
    the directory refers to their file, which has to stay. DataError names what cannot be trained on.
    """
    directory = Path(directory)
    parts = checked(arrays)
    directory.mkdir(parents=True, exist_ok=True)
    files: list[dict] = []

    def store(path: str, leaf: np.ndarray) -> int:
        key = next(key for key in KEYS if path.startswith(key))
        files.append(place(directory, f"{key}-{len(files)}.npy", leaf))
        return len(files) - 1

    structure = {key: map_arrays(store, value, key) for key, value in parts.items()}
    (directory / SIDECAR).write_text(json.dumps({"structure": structure, "files": files}, indent=1))


def read(directory: Path | str) -> dict[str, Nested]:
    """The arrays that `write` stored, mapped; tuples come back as lists. What is written to them stays in this process."""
    directory = Path(directory)
    if not (directory / SIDECAR).exists():
        raise DataError(expected(f"training data in {directory}", "no arrays.json", "dkcore.data.write stores it."))
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


def read_pieces(content: Mapping) -> dict[str, Nested]:
    """The columns of the pieces that `dkcore.pieces.describe` wrote down."""
    parts = {part: open_pieces(content["pieces"][part], content["columns"]) for part in PARTS if part in content["pieces"]}
    names = {key: (name, key.rpartition("_")[2]) for key, name in content["structure"].items()}
    return {key: map_arrays(lambda _, leaf, part=part: parts[part][leaf], name, key) for key, (name, part) in names.items()}


def place(directory: Path, name: str, array: np.ndarray) -> dict:
    """Where an array lies in a file; it is saved to one if it does not yet."""
    # A view of a mapping carries its filename and offset too, but not the right ones: its base is another array.
    mapped = type(array) is np.memmap and isinstance(array.base, mmap.mmap) and array.filename is not None
    if not (mapped and array.mode == "r" and array.flags.c_contiguous):
        np.save(directory / name, np.ascontiguousarray(array), allow_pickle=False)
        array = np.load(directory / name, mmap_mode="r")
    file = Path(array.filename).resolve()
    file = file.name if file.parent == directory.resolve() else str(file)
    return {"file": file, "dtype": array.dtype.str, "offset": array.offset, "shape": array.shape}


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


def first_leaf(nested: Nested) -> np.ndarray:
    return leaves(nested)[0][1]


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
        needed = [f"{name}_{part}" for name in ("x", "y", "sample_weight")][: len(keys)]
        if (part == "train" and not keys) or needed != keys:
            raise DataError(expected(" and ".join(needed) or "x_train", keys or "none", "Weights need targets, targets samples."))
    return parts


def plain(path: str, leaf: Any) -> "np.ndarray | Pieces":
    """The leaf without the slower ways of a memmap."""
    return leaf if isinstance(leaf, Pieces) else np.asarray(leaf)


def as_numbers(path: str, leaf: Any) -> "np.ndarray | Pieces":
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
    return array.astype(array.dtype.newbyteorder("="), copy=False)
