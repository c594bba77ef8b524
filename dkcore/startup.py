"""What lets a rank's framework start sooner: a job of a few seconds should not wait as long again for its first step."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from dkcore.cache import cache_directory

__all__ = ["keep_compiled", "spare_tensorflow", "without"]

PROCESSOR = Path("/proc/cpuinfo")
FEATURES = ("flags", "Features", "model name", "CPU part")


def keep_compiled(environment: MutableMapping[str, str]) -> None:
    """Let JAX keep what it compiles in the user's cache, for the other ranks and for later jobs: half of a short job's time.

    A folder for each kind of processor, because homes are shared between machines and native code is not. Who has set
    ``JAX_COMPILATION_CACHE_DIR`` keeps what was set; where the cache cannot be written there is none.
    """
    if "JAX_COMPILATION_CACHE_DIR" in environment:
        return
    folder = cache_directory() / "jax" / processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # as executors' homes are
        return
    if os.access(folder, os.W_OK):
        environment["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        environment.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def processor() -> str:
    """A name for all processors that run the same native code."""
    lines = PROCESSOR.read_text().splitlines() if PROCESSOR.exists() else []
    first = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    told = [f"{name.strip()}:{value}" for name, value in first.items() if name.strip() in FEATURES]
    return hashlib.sha256("\n".join(sorted([os.uname().machine, *told])).encode()).hexdigest()[:12]


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """What is imported meanwhile finds these packages absent, unless they are imported already.

    Keras imports matplotlib and pandas wherever it finds them, for plots and data frames that no rank has: a second.
    """
    missing = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # None: ImportError
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def spare_tensorflow(backend: str) -> None:
    """Let Keras on another backend take TensorFlow for absent.

    Wherever it seeds, saves or loads it would import TensorFlow to see whether something is a tensor of it: 5 s a rank.
    """
    with contextlib.suppress(ImportError):  # it is no public module of Keras; without it we only lose the time
        from keras.src.utils import module_utils

        if backend != "tensorflow" and "tensorflow" not in sys.modules:
            module_utils.tensorflow._available = False
