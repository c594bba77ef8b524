"""What to type after a signal has ended a training: the same command, which goes on from the last checkpoint."""

import os
import shlex
import sys
from pathlib import Path

__all__ = ["how_to_go_on"]


def how_to_go_on(checkpoint: str) -> str:
    """One line for a person, with this process' own command."""
    return f"Stopped by a signal after {checkpoint}. To go on: {command(sys.argv, checkpoint)}"


def command(words: list[str], checkpoint: str) -> str:
    """A command line, which resumes.

    >>> command(["/bin/dkcore", "train", "--out", "a b", "--resume", "old"], "new")
    "dkcore train --out 'a b' --resume new"
    """
    program, *rest = words
    name = Path(program).name
    start = [name] if name != "__main__.py" else ["python", "-m", Path(os.path.dirname(program)).name]
    kept = [word for place, word in enumerate(rest) if not follows(rest, place)]
    return shlex.join([*start, *kept, "--resume", checkpoint])


def follows(words: list[str], place: int) -> bool:
    """Whether a word is the option ``--resume``, or its value."""
    return words[place].partition("=")[0] == "--resume" or (place > 0 and words[place - 1] == "--resume")
