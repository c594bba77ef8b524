"""How the centers of several nodes are merged: the settings, which are the same on all of them."""

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dkcore.errors import expected

if TYPE_CHECKING:
    from dkcore.engine.codec import Codec

__all__ = ["Merging"]

SECONDS = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(s|ms)")


@dataclass(frozen=True)
class Merging:
    """Settings of the merge.

    Attributes:
        every: ``"auto"``, as often as the link allows while the merge takes at most ``share`` of the leader's processor time;
            a number of exchanges on one node; or a time such as ``"0.5s"`` or ``"50ms"``.
        compression: of what crosses the wire: ``none``, ``bf16``, ``fp16``, ``int8`` or ``topk:FRACTION``. What it holds back is
            sent later, and all of it by the end.
        timeout: seconds that another node may be silent.
        on_node_loss: ``stop``, or ``shrink``: train on with the nodes that are left (Open MPI with ``--with-ft ulfm``).
        share: for ``auto``, of the processor time of the leader's core.
    """

    every: str | int = "auto"
    compression: str = "none"
    timeout: float = 60.0
    on_node_loss: str = "stop"
    share: float = 0.1

    def __post_init__(self) -> None:
        every = self.every
        if isinstance(every, str) and every.isdigit():
            every = int(every)
            object.__setattr__(self, "every", every)
        counts = isinstance(every, int) and not isinstance(every, bool) and every >= 1
        spans = isinstance(every, str) and SECONDS.fullmatch(every)
        if every != "auto" and not counts and not spans:
            advice = 'Such as 100, "0.5s" or "auto".'
            raise ValueError(expected("merge_every as a number of exchanges, a time, or auto", repr(self.every), advice))
        if self.on_node_loss not in ("stop", "shrink"):
            raise ValueError(expected("on_node_loss of stop or shrink", repr(self.on_node_loss), "shrink needs Open MPI with ULFM."))
        if not self.timeout > 0:
            raise ValueError(expected("a merge timeout of more than 0 s", repr(self.timeout), "It is for a node that is silent."))
        self.codec()

    @property
    def exchanges(self) -> int | None:
        """Exchanges of one node between merges, if the pace is given so."""
        return self.every if isinstance(self.every, int) else None

    @property
    def seconds(self) -> float | None:
        """Seconds between merges, if the pace is given so."""
        spans = None if isinstance(self.every, int) else SECONDS.fullmatch(self.every)
        if spans is None:
            return None
        number, unit = spans.groups()
        return float(number) * (0.001 if unit == "ms" else 1.0)

    def codec(self) -> "Codec | None":
        """The codec of the compression; None for none. ValueError for one that there is not."""
        if self.compression == "none":
            return None
        from dkcore.engine.codec import Codec

        return Codec.of(self.compression)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
