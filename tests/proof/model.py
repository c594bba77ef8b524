"""SPIN's part of the proof: all states of exchange.pml, and mutants of it that must be caught."""

import re
import shutil
from pathlib import Path

from c_engine import run

__all__ = ["MODELS", "MODEL_MUTANTS", "missing", "search"]

MODELS = {"one death": "-DDEATHS=1", "two deaths, no newcomer": "-DDEATHS=2 -DWORKERS=2"}
MODEL_MUTANTS = {
    "the version is complete after the unlock": "-DLATE_VERSION",
    "progress is told in two stores": "-DTWO_STORES",
    "a slot is used before its dead owner's stripe is mended": "-DUNSETTLED",
}


def missing() -> str | None:
    """Why there can be no search here."""
    return None if shutil.which("spin") else "model: not searched: no spin. Run: apt-get install spin"


def search(name: str, options: str, folder: Path) -> str:
    """How many states there are, and how many of them are faults; a wait for ever is one."""
    place = folder / re.sub(r"\W+", "-", name)
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("exchange.pml"), place)
    run("sh", "-c", f"cd {place} && spin {options} -a exchange.pml && cc -O2 -w -DSAFETY -DCOLLAPSE -DVECTORSZ=512 -o pan pan.c")
    said = run("sh", "-c", f"cd {place} && ./pan -m400000 -w24")
    states, errors = re.search(r"(\d+) states, stored", said), re.search(r"errors: (\d+)", said)
    assert states and errors, said
    whole = "" if "Search not completed" not in said else ", not all"
    return f"model: {name}: {states[1]} states{whole}, {'0 faults' if errors[1] == '0' else f'FAULT: {said}'}"
