"""MPICH and its kin, Intel MPI among them: hydra's mpiexec."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from dkcore.launch.allocation import in_a_step
from dkcore.launch.hosts import Host, address_for
from dkcore.launch.launcher import LogFindings, Mpi, listed

__all__ = ["Mpich"]

DEAD = re.compile(r"\bPID (\d+) RUNNING AT (\S+)")


@dataclass(frozen=True)
class Mpich(Mpi):
    """hydra's mpiexec."""

    KIND: ClassVar[str] = "mpich"
    PROGRAM: ClassVar[str] = "mpiexec.hydra"  # ``mpiexec`` is whichever wheel came last
    LIBRARY: ClassVar[str] = "libmpi.so.12"

    def options(self, hosts: list[Host], exported: Iterable[str]) -> list[str]:
        if not hosts:
            return []
        address = address_for(hosts[-1].name)  # a machine's own name often leads to itself only
        return [*(["-localhost", address] if address else []), "-hosts", listed(hosts)]

    def environment(self, inherited: Mapping[str, str], scratch: str, agent: str | None = None) -> dict[str, str]:
        clean = super().environment(inherited, scratch, agent)
        if agent is not None:
            clean.pop("HYDRA_HOST_FILE", None)
            return clean | {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": agent}
        if in_a_step(inherited):
            clean["HYDRA_LAUNCHER"] = "fork"  # rather than srun
        return clean

    @staticmethod
    def read_log(log: str) -> LogFindings:
        return LogFindings(processes=[(int(pid), host) for pid, host in DEAD.findall(log)])
