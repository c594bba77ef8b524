"""An mpiexec of any kind: the command and the environment that start ranks with it, and what its log tells of their end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from dkcore.errors import expected
from dkcore.launch.hosts import Host
from dkcore.ranks.processes import REMOTE_MARK

__all__ = ["LogFindings", "Mpi", "listed", "outside_ranks"]

# Variables by which a process knows that it is a rank, which those that it launches are not.
OF_A_RANK = ("PMI_", "PMIX_", "MPI_LOCAL", "OMPI_COMM_WORLD", "OMPI_WORLD", "OMPI_UNIVERSE", "PRTE_LAUNCHED", "HYDI_", REMOTE_MARK)


@dataclass
class LogFindings:
    """What an mpiexec's log tells of ranks that died.

    processes: pid and host of each that it saw end first. ranks: the same, by rank. reporters: ranks that say so of others.
    """

    processes: list[tuple[int, str]] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    reporters: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Mpi:
    """An mpiexec, the library that mpi4py must load to belong to it (None: its choice), and where the files of a wheel are.

    Each kind of launcher is a subclass, which states its name (KIND) and, where PyPI has a wheel of it, its program and library.
    """

    KIND: ClassVar[str]
    PROGRAM: ClassVar[str]
    LIBRARY: ClassVar[str]

    mpiexec: str
    library: str | None = None
    prefix: str | None = None

    @property
    def kind(self) -> str:
        return self.KIND

    def command(self, ranks: int, hosts: list[Host] | None = None, exported: Iterable[str] = (), tolerant: bool = False) -> list[str]:
        """mpiexec for that many ranks, unbound: dkcore shares the cores itself.

        hosts: where to start them, and how many on each; None leaves that to mpiexec: this machine, or what a batch system
        allotted. exported: names of variables that the ranks on other hosts shall have. tolerant: let the others go on when a
        rank dies (ULFM). ValueError when this MPI cannot do what is asked.
        """
        tolerance = self.tolerance() if tolerant else []
        return [self.mpiexec, *tolerance, *self.options(hosts or [], exported), "-n", str(ranks)]

    def tolerance(self) -> list[str]:
        """The options for ranks that go on without the dead."""
        raise ValueError(expected("Open MPI, to go on when ranks die", self.kind, "Pass mpi='openmpi', or on_node_loss='stop'."))

    def options(self, hosts: list[Host], exported: Iterable[str]) -> list[str]:
        """Those of its own for these hosts; none is this machine, or what a batch system allotted."""
        raise NotImplementedError

    def environment(self, inherited: Mapping[str, str], scratch: str, agent: str | None = None) -> dict[str, str]:
        """The environment of mpiexec. scratch: an existing folder for its temporary files. agent: what takes ssh's place."""
        clean = outside_ranks(inherited)
        if self.library is not None:
            clean.pop("MPI4PY_MPIABI", None)
            clean["MPI4PY_LIBMPI"] = self.library
        return clean

    @staticmethod
    def read_log(log: str) -> LogFindings:
        """What its messages tell of dead ranks."""
        return LogFindings()


def outside_ranks(inherited: Mapping[str, str]) -> dict[str, str]:
    """An environment for processes that are no ranks of the job in which this process may be one."""
    return {name: value for name, value in inherited.items() if not name.startswith(OF_A_RANK)}


def listed(hosts: list[Host]) -> str:
    return ",".join(f"{host.name}:{host.slots}" for host in hosts)
