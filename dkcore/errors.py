"""What can go wrong, one class for each thing that a caller may want to tell apart."""

import errno
import re
from collections.abc import Iterable, Sequence

__all__ = [
    "CenterNotFoundError",
    "CheckpointError",
    "DataError",
    "DkcoreError",
    "LayoutError",
    "MergeError",
    "MissingError",
    "ModelError",
    "NamespaceError",
    "NoRoomError",
    "NotFiniteError",
    "RankError",
    "RuleError",
    "StripeTimeoutError",
]


LONGEST = 480  # characters of an error in one line: a few lines of a terminal
NAMED = 8  # of many ranks
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # Keras has it in its messages


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


class CheckpointError(DkcoreError, ValueError):
    """A checkpoint that cannot be resumed from: cut short, of newer code, or none at all."""


class NamespaceError(DkcoreError, OSError):
    """A center made in another namespace of processes: its locks would not know who of us holds them."""


class StripeTimeoutError(DkcoreError, TimeoutError):
    """A stripe stayed locked by a live process."""


class NotFiniteError(DkcoreError, FloatingPointError):
    """NaN or infinity in a worker's weights; the center never saw them. element: the first of the weights, as the engine raises it."""

    element: int


class MergeError(DkcoreError, RuntimeError):
    """The centers of the nodes cannot be merged any longer: a node vanished, or does not fit the others."""


class RankError(DkcoreError, RuntimeError):
    """A rank raised, exited or was killed. The message has its traceback and the end of its log; its last line is the cause.

    rank: which one, None when it is not known. exit_code: what a launcher should exit with. cause: that last line, without
    ``Error:``; empty when the whole message is the cause.
    """

    rank: int | None = None
    exit_code: int = 1
    cause: str = ""

    def closing(self) -> "RankError":
        """The same with nothing but the cause: for who has seen already what the ranks printed."""
        error = RankError(self.cause or str(self))
        error.rank, error.exit_code = self.rank, self.exit_code
        return error


class MissingError(DkcoreError, ImportError):
    """Something that dkcore needs is not installed or not compiled; the message has the command that mends it."""


class ModelError(DkcoreError, ValueError):
    """A Keras model that cannot be trained through a center."""


class DataError(DkcoreError, ValueError):
    """Training data that cannot be used."""


def of_system(number: int, text: str) -> OSError:
    """The error of a system call that failed with that errno."""
    if number in (errno.EMFILE, errno.ENFILE):
        text = expected("a free file descriptor", text, "Close files, or raise the limit: ulimit -n 4096.")
    return OSError(number, text)


def expected(what: str, received: object, advice: str) -> str:
    """One message in the house's form: what was expected, what came, what to do. What came may be a sentence with its full stop.

    >>> expected("a window of 1 or more", 0, "Pass window=12.")
    'Expected a window of 1 or more. Received: 0. Pass window=12.'
    """
    return f"Expected {what}. Received: {str(received).removesuffix('.')}. {advice}"


def nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    """Advice about a name that is none: the known one that it is most like, or the other advice.

    >>> nearest("adagg", ["adag", "dynsgd"], "See the docs.")
    "Did you mean 'adag'?"
    """
    from difflib import get_close_matches  # only an error needs it

    by_lower = {other.lower(): other for other in known}
    found = get_close_matches(str(name).lower(), by_lower, n=1)
    return f"Did you mean {by_lower[found[0]]!r}?" if found else otherwise


def one_line(error: BaseException) -> str:
    """An error as one line: its class and what it says, cut with "..." where that goes on and on, as the printout of a tensor does.

    >>> one_line(ValueError("weights of [1.0,\\n 2.0]"))
    'ValueError: weights of [1.0, 2.0]'
    """
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r})"
    try:
        words = " ".join(COLOUR.sub("", str(error)).split())
    except Exception:  # a class of the user's whose own text fails: Python's tracebacks say that of it, too
        words = "<exception str() failed>"
    text = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} ..."


def counted(noun: str, numbers: Sequence[int]) -> str:
    """Numbers with their noun, for a message; of many the first ones.

    >>> counted("rank", [3]), counted("process", [4, 5, 6]), counted("rank", range(64))
    ('rank 3', 'processes 4, 5 and 6', 'ranks 0, 1, 2, 3, 4, 5, 6, 7 and 56 more')
    """
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    named = [str(number) for number in numbers[:NAMED]]
    last = f"{len(numbers) - NAMED} more" if len(numbers) > NAMED else named.pop()
    return f"{noun}{'es' if noun.endswith('s') else 's'} {', '.join(named)} and {last}"


def silent_death(dead: list[tuple[int, str, int]]) -> str:
    """The cause when ranks ended and nobody knows why: of each its number, its host, its pid.

    >>> silent_death([(1, "node1", 4242)])
    'rank 1 on node1: process 4242 died without an exception. Killed, out of memory, or os._exit?'
    """
    hosts = dict.fromkeys(host for _, host, _ in dead)
    ranks = " and ".join(f"{counted('rank', [rank for rank, there, _ in dead if there == host])} on {host}" for host in hosts)
    processes = counted("process", [pid for *_, pid in dead])
    return f"{ranks}: {processes} died without an exception. Killed, out of memory, or os._exit?"


def first_line(error: BaseException) -> str:
    """What an error of another library says first, without its full stop."""
    text = str(error).strip() or repr(error)
    return text.splitlines()[0].rstrip(".")
