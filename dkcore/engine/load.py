"""The compiled engine, or one message that says how to get it."""

from typing import TYPE_CHECKING, Protocol

from dkcore.errors import MissingError, expected

if TYPE_CHECKING:
    from dkcore import _engine
    from dkcore.arrays import Array

__all__ = ["Engine", "Exchanging", "engine"]


class Engine(Protocol):
    """What the package uses of the Cython module ``dkcore._engine``."""

    Call: "type[_engine.Call]"
    Pass: "type[_engine.Pass]"
    Role: "type[_engine.Role]"
    Segment: "type[_engine.Segment]"

    def sweep(self, name: str) -> bool: ...
    def instruction_sets(self) -> list[str]: ...
    def find_kernel(self, rule: str, dtype: str, isa: str | None = None, looking: bool = False) -> int: ...
    def codec_bytes(self, kind: int, itemsize: int, fraction: float, n: int) -> int: ...
    def encode(self, kind: int, fraction: float, values: "Array", residual: "Array | None", data: "Array") -> None: ...
    def decode(self, kind: int, fraction: float, data: "Array", values: "Array", add: bool) -> None: ...


compiled: Engine | None
try:
    from dkcore import _engine as compiled
    from dkcore._engine import Exchanging
except ImportError as error:
    compiled, reason = None, error

    class Exchanging:  # type: ignore[no-redef]  # in the place of the compiled one
        """Nothing is exchanged without the compiled engine: `engine` raises before there is a center."""


def engine() -> Engine:
    """The Cython module ``dkcore._engine``; MissingError when this tree was never compiled."""
    if compiled is None:
        what = "the compiled engine, dkcore._engine"
        raise MissingError(expected(what, str(reason), "Run: pip install . (or make, in a checkout).")) from reason
    return compiled
