"""The last of several expensive things, kept for the next case that wants the same."""

from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Any

__all__ = ["Kept"]


class Kept:
    """One thing at a time, remade when another key is asked for. A context manager."""

    def __init__(self) -> None:
        self.stack, self.key, self.thing = ExitStack(), None, None

    def get(self, key: Hashable, make: Callable[[ExitStack], Any]) -> Any:
        """The thing of that key. ``make`` enters what must be closed later into the stack that it is given."""
        if self.key != key:
            self.close()
            self.thing, self.key = make(self.stack), key
        return self.thing

    def close(self) -> None:
        """Close the thing."""
        self.key = self.thing = None
        self.stack.close()

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *error) -> None:
        self.close()
