"""What became of the workers of a seat: where the next one goes on, and what the report is told."""

import dataclasses
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dkcore.ranks.seated import Again

if TYPE_CHECKING:
    from dkcore._engine import SlotView
    from dkcore.center import Center

__all__ = ["Account", "after_death", "ended", "slot_of"]


@dataclass
class Account:
    """deaths: of workers. restarts: of them. exchanges_in_doubt: a worker died within one, when some stripes had it; its rows are trained
    again. rows_in_doubt: those rows. rows_lost: that nobody trained on, for no worker followed. joined: 1 for a worker that came later.
    left: 1 for a seat whose worker has left as it was asked to.
    """

    deaths: int = 0
    restarts: int = 0
    exchanges_in_doubt: int = 0
    rows_in_doubt: int = 0
    rows_lost: int = 0
    joined: int = 0
    left: int = 0


def slot_of(center: "Center", pid: int) -> "SlotView | None":
    """What the last slot of a process shows; None when it has claimed none."""
    mine = [slot for slot in center.slots() if slot["pid"] == pid]
    return max(mine, key=lambda slot: slot["started"], default=None)


def after_death(center: "Center", before: Again, slot: "SlotView | None", account: Account, batch_size: int) -> Again:
    """What the next worker takes over, when one that had taken over ``before`` died and left a slot; counts what is in doubt."""
    if slot is None:
        return before
    found = dataclasses.replace(before, histogram=tuple(before.added(slot["histogram"])))
    exchanges, place = slot["exchanges"] - before.ahead, slot["place"]
    if slot["begun"] == slot["exchanges"] + 1:  # died within it
        if slot["stripes_in"] == center.stripes:
            exchanges, place = exchanges + 1, slot["next"]
        elif slot["stripes_in"] or slot["in_part"]:
            account.exchanges_in_doubt += 1
            account.rows_in_doubt += (slot["next"][2] - place[2]) * batch_size
    if exchanges <= before.exchanges:  # nothing new
        return found
    epoch, step, steps, samples = place
    return dataclasses.replace(found, exchanges=exchanges, epoch=epoch, step=step, steps=steps, samples=samples)


def ended(code: int) -> str:
    """How a process ended that left no word. code: its exit code, -n when signal n killed it."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended without a word, with exit code {code}"
