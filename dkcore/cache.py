"""Where dkcore keeps what it can make again: MNIST, kernels of rules born at run time, the TensorFlow op."""

import os
from pathlib import Path

__all__ = ["cache_directory"]


def cache_directory() -> Path:
    """The user's own, as the XDG base directory specification has it (relative paths are ignored); it need not exist yet."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "dkcore"
