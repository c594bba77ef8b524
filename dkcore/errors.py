"""What can go wrong, one class for each thing that a caller may want to tell apart."""

__all__ = [
    "CenterNotFoundError",
    "DataError",
    "DkcoreError",
    "LayoutError",
    "MergeError",
    "MissingError",
    "ModelError",
    "NoRoomError",
    "NotFiniteError",
    "RankError",
    "RuleError",
    "StripeTimeoutError",
]


class DkcoreError(Exception):
    """The base of all errors that dkcore raises on purpose."""


class LayoutError(DkcoreError, ValueError):
    """Two sides disagree on the shape, dtype or order of the weights."""


class RuleError(DkcoreError, TypeError):
    """A rule that cannot be traced, or a call that does not fit its rule."""


class NoRoomError(DkcoreError, OSError):
    """Shared memory is too small for the center."""


class CenterNotFoundError(DkcoreError, TimeoutError):
    """No center of that name appeared in time."""


class StripeTimeoutError(DkcoreError, TimeoutError):
    """A stripe stayed locked by a live process."""


class NotFiniteError(DkcoreError, FloatingPointError):
    """NaN or infinity in a worker's weights; the center never saw them."""


class MergeError(DkcoreError, RuntimeError):
    """The centers of the nodes cannot be merged any longer: a node vanished, or does not fit the others."""


class RankError(DkcoreError, RuntimeError):
    """A rank raised, exited or was killed; the message has its traceback.

    rank: which one, None when it is not known. exit_code: what a launcher should exit with.
    """

    rank: int | None = None
    exit_code: int = 1


class MissingError(DkcoreError, ImportError):
    """Something that dkcore needs is not installed or not compiled; the message has the command that mends it."""


class ModelError(DkcoreError, ValueError):
    """A Keras model that cannot be trained through a center."""


class DataError(DkcoreError, ValueError):
    """Training data that cannot be used."""


def expected(what: str, received: object, advice: str) -> str:
    """One message in the house's form: what was expected, what came, what to do.

    >>> expected("a window of 1 or more", 0, "Pass window=12.")
    'Expected a window of 1 or more. Received: 0. Pass window=12.'
    """
    return f"Expected {what}. Received: {received}. {advice}"
