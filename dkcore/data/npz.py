"""An ``.npz`` file of training data, with the keys that Keras' own data sets have, mapped instead of read."""

import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from dkcore.arrays import Array
from dkcore.errors import DataError, expected, nearest

__all__ = ["KEYS", "PARTS", "ROLES", "open_npz", "write_npz"]

ROLES, PARTS = ("x", "y", "sample_weight"), ("train", "test")
KEYS = tuple(f"{role}_{part}" for part in PARTS for role in ROLES)
NEEDED = KEYS[:2]
ALIGNMENT = 64  # bytes; TensorFlow takes foreign memory at such addresses only
LOCAL_HEADER = 30  # bytes of a zip member's local header before its name
PADDING = 0xD935  # the id that zipalign gave to an extra field of padding
CONVERT = "Make the file with numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)."


def open_npz(path: Path | str, directory: Path | str | None = None) -> dict[str, Array]:
    """The arrays of an ``.npz``: x_train and y_train; x_test and y_test, and sample_weight_train and sample_weight_test, where it has them.

    Members that are stored as they are (`numpy.savez`) are mapped in place, read-only: nothing is read yet. Compressed ones
    (`numpy.savez_compressed`) are unpacked to ``.npy`` files in ``directory`` and mapped there, or read when it is None.
    Arrays are numbers of any shape whose first axis is the sample; DataError names the key and what was found otherwise.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            keys = [key for key in KEYS if f"{key}.npy" in names]
            check_keys(path, keys, names)
            arrays = {key: open_member(archive, path, key, directory) for key in keys}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(expected(f"an .npz file at {path}", error, CONVERT)) from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(expected("an .npz file", f"{path}: {error.strerror}", "Check the path, or pass mnist.")) from error
    check_samples(path, arrays)
    return arrays


def check_keys(path: Path, keys: list[str], names: list[str]) -> None:
    found = ", ".join(name.removesuffix(".npy") for name in names) or "an empty file"
    if missing := [key for key in NEEDED if key not in keys]:
        raise DataError(expected(f"{' and '.join(missing)} in {path}", found, CONVERT))
    if ("x_test" in keys) != ("y_test" in keys) or ("sample_weight_test" in keys and "x_test" not in keys):
        raise DataError(expected(f"both of x_test and y_test in {path}, or neither", found, CONVERT))
    if unknown := [name for name in names if name.removesuffix(".npy") not in KEYS]:
        name = unknown[0].removesuffix(".npy")
        advice = f"{nearest(name, KEYS, '')} Save the arrays that are to be used under these names, and no others.".strip()
        raise DataError(expected(f"the keys {', '.join(KEYS)} in {path}", f"a key {name!r}", advice))


def check_samples(path: Path, arrays: Mapping[str, Array]) -> None:
    """x and y of each part are equally long, and train and test samples have one shape."""
    for part in PARTS:
        if f"x_{part}" not in arrays:
            continue
        lengths = {key: len(arrays[key]) for key in (f"{role}_{part}" for role in ROLES) if key in arrays}
        if len(set(lengths.values())) > 1:
            what = f"as many labels y_{part}, and weights, as samples x_{part} in {path}"
            raise DataError(expected(what, lengths, "The first axis of each array is the sample."))
    for name in ("x", "y"):
        shapes = {key: arrays[key].shape[1:] for key in (f"{name}_train", f"{name}_test") if key in arrays}
        if len(set(shapes.values())) > 1:
            raise DataError(expected(f"one shape of sample in {path}", shapes, "Train and test differ in their length only."))


def open_member(archive: zipfile.ZipFile, path: Path, key: str, directory: Path | str | None) -> Array:
    """One array of the archive. Its header is judged first, so that no pickle is ever loaded."""
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as member:
        shape, fortran, dtype = read_header(member, key)
        check_header(path, key, shape, dtype)
        header_bytes = member.tell()
    if info.compress_type == zipfile.ZIP_STORED:
        start = data_offset(path, info) + header_bytes
        if path.stat().st_size < start + dtype.itemsize * int(np.prod(shape)):
            raise DataError(expected(f"all of {key} in {path}", "a file that ends before it", "Copy the file again."))
        return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
    if directory is None:
        with archive.open(info) as member:
            unpacked: Array = np.lib.format.read_array(member, allow_pickle=False)
            return unpacked
    mapped: Array = np.load(archive.extract(info, directory), mmap_mode="r", allow_pickle=False)
    return mapped


def read_header(member: IO[bytes], key: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the order is Fortran's, and dtype of the ``.npy`` file that begins here."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(member)
        return readers[version](member)
    except (ValueError, KeyError) as error:
        raise DataError(expected(f"an array of numbers at {key}", error, CONVERT)) from error


def check_header(path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """DataError unless it is one sample or more of real numbers."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        found = "Python objects (dtype object)" if dtype.hasobject else f"dtype {dtype}"
        advice = "Convert it before saving, for instance with .astype('float32')."
        raise DataError(expected(f"integers, floats or booleans at {key} of {path}", found, advice))
    if not shape or 0 in shape:
        what = f"one sample or more at {key} of {path}"
        raise DataError(expected(what, f"shape {shape}", "The first axis of each array is the sample."))


def data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin; the central directory does not say, only the local header does."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER)
    name_bytes: int
    extra_bytes: int
    name_bytes, extra_bytes = struct.unpack("<26xHH", header)
    return info.header_offset + LOCAL_HEADER + name_bytes + extra_bytes


def write_npz(path: Path | str, arrays: Mapping[str, Array]) -> None:
    """Write an uncompressed ``.npz`` whose arrays begin at multiples of 64 bytes, so that every framework can map them.

    The file appears at once and whole, or not at all, even when several processes write it.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for key, array in arrays.items():
                info = zipfile.ZipInfo(f"{key}.npy")
                padding = -(file.tell() + LOCAL_HEADER + len(info.filename) + 4) % ALIGNMENT
                info.extra = struct.pack("<HH", PADDING, padding) + bytes(padding)
                with archive.open(info, "w") as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
        os.chmod(temporary, 0o644)  # mkstemp made it the owner's alone
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
