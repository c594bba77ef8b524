"""The compiled engine, or one message that says how to get it."""

from types import ModuleType

from dkcore.errors import MissingError, expected

__all__ = ["engine"]

try:
    from dkcore import _engine
except ImportError as error:
    _engine, reason = None, error


def engine() -> ModuleType:
    """The Cython module ``dkcore._engine``; MissingError when this tree was never compiled."""
    if _engine is None:
        what = "the compiled engine, dkcore._engine"
        raise MissingError(expected(what, str(reason), "Run: pip install . (or make, in a checkout).")) from reason
    return _engine
