"""The manifest: what makes a checkpoint of parts, and how the newest whole one is found."""

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from dkcore.checkpoints.folder import MANIFEST, Folder, name_of, number_of, parent_of
from dkcore.checkpoints.part import FAILURE, node_part, rank_part, read_part
from dkcore.errors import CheckpointError, expected, first_line
from dkcore.version import VERSION

__all__ = ["Manifest", "Saved", "assemble", "find"]

FORMAT = 2  # of manifests and parts; a higher one is of newer code
CHECKSUM = "checksum"


@dataclass
class Manifest:
    """What a checkpoint says of itself.

    Attributes:
        number: of the checkpoint in its folder. time: when it was made, seconds since the epoch. dkcore, format: that wrote it.
        digest, size, dtype: of the model's weights, see `dkcore.replica.replica.Replica`. statistics: how many are at the end.
        rule: name of the rule or method. adds: of the center and of each state, whether changes of nodes add up; see
            `dkcore.merge.cut`.
        ranks: of each rank that had a part, where it stood: its rank, epoch, step in the epoch, steps, exchanges.
        nodes: how many nodes had a center; merges: the merge after which each copied it.
        leases: of each node, where batches are leased: those of an epoch, the next ticket, the ranges below it that were unsettled when
            the center was copied, and whether it is exact: no exchange came between.
        settings: of the job; empty for a script.
        parts: size in bytes and SHA-256, by the name of the file.
    """

    number: int
    digest: int
    size: int
    dtype: str
    statistics: int
    rule: str
    adds: list[bool]
    nodes: int
    merges: list[int]
    ranks: list[dict[str, Any]]
    parts: dict[str, dict[str, Any]]
    leases: list[dict[str, Any] | None] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)
    dkcore: str = VERSION
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        plain = dataclasses.asdict(self)
        return json.dumps({**plain, CHECKSUM: checksum(plain)}, indent=1).encode()


def checksum(plain: dict[str, Any]) -> str:
    """Of a manifest itself: what was changed by hand, or lost a line, is none."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Saved:
    """A whole checkpoint. folder: in which it lies, under its name. skipped: newer ones that are not whole, with the reason."""

    folder: Folder
    name: str
    manifest: Manifest
    skipped: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        return f"{self.folder.location}/{self.name}"

    def part(self, name: str) -> dict[str, Any]:
        """The arrays of one part."""
        return read_part(self.folder, self.name, name)

    def verify(self) -> None:
        """CheckpointError unless all parts are there, with the bytes that were written."""
        for name, known in self.manifest.parts.items():
            size, digest = 0, hashlib.sha256()
            try:
                for chunk in self.folder.chunks(self.name, name):
                    size += len(chunk)
                    digest.update(chunk)
            except OSError as error:
                raise self.broken(name, first_line(error)) from error
            if size != known["size"]:
                raise self.broken(name, f"{size} bytes of {known['size']}")
            if digest.hexdigest() != known["sha256"]:
                raise self.broken(name, "other bytes than were written")

    def broken(self, name: str, received: str) -> CheckpointError:
        return CheckpointError(expected(f"a whole {name} in {self.location}", received, "Resume from the checkpoint before it."))


def find(location: str, *, verify: bool = True) -> Saved:
    """The checkpoint of that path; of a folder of checkpoints the newest whole one. CheckpointError when there is none.

    verify: compare all bytes with the manifest; False for who was told the path by somebody who did.
    """
    folder = Folder(location)
    if folder.whole():
        return load(*parent_of(location), verify)
    skipped: list[str] = []
    for number in reversed(folder.numbers()):
        try:
            return dataclasses.replace(load(folder, name_of(number), verify), skipped=tuple(skipped))
        except CheckpointError as error:
            skipped.append(str(error))
    advice = "A checkpoint is a folder with manifest.json, as --checkpoint-every or checkpoint= write it."
    raise CheckpointError("\n".join([*skipped, expected(f"a whole checkpoint in {location}", "none", advice)]))


def load(folder: Folder, name: str, verify: bool) -> Saved:
    """One checkpoint; CheckpointError when it is cut short, or of newer code."""
    try:
        plain = json.loads(folder.read(name, MANIFEST))
        known = plain.pop(CHECKSUM)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        what, advice = f"a manifest in {folder.location}/{name}", "It was cut short: resume from the checkpoint before it."
        raise CheckpointError(expected(what, first_line(error), advice)) from error
    if plain["format"] > FORMAT:
        what = f"a checkpoint of format {FORMAT} or older"
        received = f"format {plain['format']} of dkcore {plain['dkcore']} in {folder.location}/{name}"
        raise CheckpointError(expected(what, received, f"Install that dkcore: this one is {VERSION}."))
    if checksum(plain) != known:
        what, advice = f"the manifest that was written in {folder.location}/{name}", "Resume from the checkpoint before it."
        raise CheckpointError(expected(what, "another one", advice))
    saved = Saved(folder, name, Manifest(**plain))
    if verify:
        saved.verify()
    return saved


def assemble(folder: Folder, name: str, settings: dict[str, Any], missing: frozenset[int] = frozenset()) -> bool:
    """Make a checkpoint of a draft, if all of its parts are there: True when it is made, False when some are not there yet.

    missing: ranks that are gone, and have no part. CheckpointError when it never will be, because a part could not be written.
    """
    records = folder.records(name)
    failures = [f"{part}: {record[FAILURE]}" for part, record in records.items() if FAILURE in record]
    if failures:
        raise CheckpointError("; ".join(failures))
    nodes = next((record["about"] for record in records.values() if "nodes" in record["about"]), None)
    if nodes is None:
        return False
    ranks = [rank for rank in range(nodes["ranks"]) if rank not in missing]
    parts = [*map(node_part, range(nodes["nodes"])), *map(rank_part, ranks)]
    if not all(part in records for part in parts):
        return False
    folder.publish(name, of_records(name, nodes, [records[part] for part in parts], parts, settings).to_bytes())
    return True


def of_records(name: str, common: dict[str, Any], records: list[dict[str, Any]], parts: list[str], settings: dict[str, Any]) -> Manifest:
    """The manifest of a checkpoint: nodes' parts first, then those of ranks."""
    about, nodes = [record["about"] for record in records], common["nodes"]
    known = {part: {key: record[key] for key in ("size", "sha256")} for part, record in zip(parts, records, strict=True)}
    stated = {key: common[key] for key in ("digest", "size", "dtype", "statistics", "rule", "adds", "nodes")}
    merges = [each["merge"] for each in about[:nodes]]
    leases = [each.get("leases") for each in about[:nodes]]
    return Manifest(number=number_of(name), merges=merges, leases=leases, ranks=about[nodes:], parts=known, settings=settings, **stated)
