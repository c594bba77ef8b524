"""What lets a rank's framework start sooner: a job of a few seconds should not wait as long again for its first step."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from dkcore.cache import cache_directory

__all__ = ["BACKENDS", "block_imports", "hide_tensorflow", "keep_compiled", "quieten", "tensorflow_hidden", "without_chatter"]

BACKENDS = ("tensorflow", "jax", "torch")  # what Keras 3 trains on
PROCESSOR = Path("/proc/cpuinfo")
LEVEL, NOTES, QUIET = "TF_CPP_MIN_LOG_LEVEL", "0", "2"
# What TensorFlow and XLA say before they read that level: of a machine without a GPU, for one.
CHATTER = re.compile(r"WARNING: All log messages before absl::InitializeLog|I\d{4} \d\d:\d\d:[\d.]+ +\d+ \S+\.cc:\d+\]")
FEATURES = ("flags", "Features", "model name", "CPU part")


def quieten(environment: MutableMapping[str, str]) -> None:
    """Keep what frameworks say of themselves as they start out of the output; what the user has set stays.

    The level is that of TensorFlow, XLA and JAX, absl's and oneDNN's notes included: errors are shown, notes and warnings are not.
    """
    environment.setdefault(LEVEL, QUIET)


def without_chatter(lines: list[str]) -> list[str]:
    """The lines of a log but for what `quieten` cannot keep out of it; all of them when the user has asked for notes.

    Notes are level 0 alone: JAX sets level 1, that of warnings, in each process that imports it.
    """
    return lines if os.environ.get(LEVEL) == NOTES else [line for line in lines if not CHATTER.match(line)]


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
    import hashlib

    lines = PROCESSOR.read_text().splitlines() if PROCESSOR.exists() else []
    first = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    features = [f"{name.strip()}:{value}" for name, value in first.items() if name.strip() in FEATURES]
    return hashlib.sha256("\n".join(sorted([os.uname().machine, *features])).encode()).hexdigest()[:12]


@contextlib.contextmanager
def block_imports(*names: str) -> Iterator[None]:
    """What is imported meanwhile finds these packages absent, unless they are imported already.

    Keras imports matplotlib and pandas wherever it finds them, for plots and data frames that no rank has: a second.
    """
    missing = [name for name in names if name not in sys.modules]
    absent: Any = None  # that in sys.modules makes an ImportError, whatever its type says
    sys.modules.update(dict.fromkeys(missing, absent))
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


@contextlib.contextmanager
def tensorflow_hidden(backend: str) -> Iterator[None]:
    """`hide_tensorflow`, for as long as the context lasts: in a process of the user's, who may want TensorFlow later."""
    from keras.src.utils import module_utils

    before = module_utils.tensorflow._available
    hide_tensorflow(backend)
    try:
        yield
    finally:
        module_utils.tensorflow._available = before


def hide_tensorflow(backend: str) -> None:
    """Let Keras on another backend take TensorFlow for absent.

    Wherever it seeds, saves or loads it would import TensorFlow to see whether something is a tensor of it: 5 s a rank.
    """
    with contextlib.suppress(ImportError):  # it is no public module of Keras; without it we only lose the time
        from keras.src.utils import module_utils

        if backend != "tensorflow" and "tensorflow" not in sys.modules:
            module_utils.tensorflow._available = False
