"""Which hosts ranks are started on, and how many on each."""

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dkcore.errors import expected

__all__ = ["Host", "address_for", "count_ranks", "parse_hosts", "place", "read_hostfile"]

FORM = "Such as a:2,b:2 for two ranks on a and two on b."


@dataclass(frozen=True)
class Host:
    """A host and its slots: the ranks that it takes, or that were placed there."""

    name: str
    slots: int = 1


def parse_hosts(hosts: "str | Iterable[str | Host]") -> list[Host]:
    """Hosts of ``"a:2,b"``, or of a list of such words. A host that comes again gets the more slots.

    >>> parse_hosts("a:2,b")
    [Host(name='a', slots=2), Host(name='b', slots=1)]
    """
    words = hosts.split(",") if isinstance(hosts, str) else hosts
    return merged(word if isinstance(word, Host) else host_of(word) for word in words)


def read_hostfile(path: Path | str) -> list[Host]:
    """The hosts of a file with one a line: ``host``, ``host:2`` or ``host slots=2``; # begins a comment."""
    lines = [line.partition("#")[0].split() for line in os.fsdecode(Path(path).read_bytes()).splitlines()]
    return merged(host_of(*words) for words in lines if words)


def merged(hosts: Iterable[Host]) -> list[Host]:
    slots: dict[str, int] = {}
    for host in hosts:  # batch systems write one line for each slot
        slots[host.name] = slots.get(host.name, 0) + host.slots
    if not slots:
        raise ValueError(expected("one or more hosts", "none", FORM))
    return [Host(name, number) for name, number in slots.items()]


def host_of(word: str, *settings: str) -> Host:
    """The host of one word, or of a line of a hostfile."""
    name, separator, slots = word.strip().partition(":")
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key == "slots" and equals and not separator:
            separator, slots = ":", value
        elif key != "max_slots":  # Open MPI's files may have it
            raise ValueError(expected("a host as host, host:2 or host slots=2", repr(" ".join([word, *settings])), FORM))
    if not name or name.startswith("-") or (separator and not (slots.isdecimal() and int(slots) > 0)):
        raise ValueError(expected("a host as host or host:SLOTS", repr(" ".join([word, *settings])), FORM))
    return Host(name, int(slots) if separator else 1)


def count_ranks(hosts: list[Host] | None, workers: int | None, default: int | None) -> int | None:
    """How many ranks to start: as many as are asked for, else as there are slots, else the default."""
    if workers is not None:
        return workers
    return sum(host.slots for host in hosts) if hosts else default


def place(hosts: list[Host], ranks: int) -> list[Host]:
    """The hosts with as many slots as ranks are placed there: each is filled before the next one. ValueError without room."""
    placed, left = [], ranks
    for host in hosts:
        placed.append(Host(host.name, min(host.slots, left)))
        left -= placed[-1].slots
    if left > 0:
        slots = ", ".join(f"{host.name}:{host.slots}" for host in hosts)
        raise ValueError(expected(f"slots for {ranks} ranks", f"{ranks - left} ({slots})", "Give the hosts more slots, or start fewer."))
    return [host for host in placed if host.slots]


def address_for(host: str) -> str | None:
    """This machine's address as the other host sees it; None when we cannot tell."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host.rpartition("@")[2], 9))  # of a datagram socket: nothing is sent
            address: str = probe.getsockname()[0]
            return address
    except OSError:  # a name that only ssh knows, or none: ssh will say
        return None
