"""Which batches of an epoch the workers of a node train: leased in turn, settled by the exchange that commits them."""

from typing import TYPE_CHECKING

from dkcore.arrays import Array

if TYPE_CHECKING:
    from dkcore._engine import LeasesView, Segment

__all__ = ["FOREVER", "Leased"]

FOREVER = 2**63  # more tickets than are ever leased


class Leased:
    """What a center has of leases. Batches of all epochs are numbered in a row: ``ticket = epoch * batches + batch``."""

    segment: "Segment"

    def open_leases(self, batches: int) -> None:
        """An epoch has so many batches; every worker may call this. ValueError when others lease with another number."""
        self.segment.open_leases(batches)

    @property
    def leases(self) -> "LeasesView":
        """What became of the batches so far, over all epochs.

        batches: of an epoch, 0 where none are leased. next: the ticket that is leased next; those below it are settled, held by a
        worker, or waiting to be leased again, because the worker that held them ended. returned: so many have waited so far. doubtful:
        their worker died within the exchange that settles them; they count as settled, though some stripes may not have it.
        under_way: exchanges that are about to settle. open, busy: see `await_leases`.
        """
        return self.segment.leases()

    def await_leases(self, until: int, timeout: float) -> "LeasesView":
        """As `leases`, when something below ``until`` can be leased (open: 1), when all of that is settled, or after so many seconds.

        busy: 1 if a worker holds some of it.
        """
        return self.segment.leases(until, timeout)

    def unsettled(self) -> "tuple[Array, LeasesView]":
        """What is not settled below ``next``, at one moment: (first, count) of each range, shape (ranges, 2), uint64; and `leases`."""
        return self.segment.unsettled()

    def restore_leases(self, batches: int, following: int, waiting: Array) -> None:
        """Before anything is leased: go on with the ticket ``following``, after the ranges that wait, shape (ranges, 2)."""
        self.segment.restore_leases(batches, following, waiting)
