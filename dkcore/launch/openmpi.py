"""Open MPI, of version 5 (PRRTE) or 4 (ORTE)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dkcore.launch.hosts import Host
from dkcore.launch.launcher import LogFindings, Mpi, listed

__all__ = ["OpenMpi"]

# What belongs to a host or a terminal, and what Open MPI takes along by itself.
OF_A_HOST = ("HOSTNAME", "PWD", "OLDPWD", "TMPDIR", "SHLVL", "_", "TERM", "DISPLAY", "SSH_", "OMPI_", "PRTE_", "PMIX_", "SLURM_")
DEAD = re.compile(r"\bPID (\d+) on node (\S+)(?!\S| calling)")
DEAD_RANK = re.compile(r"Process name: \[\S+,(\d+)\]")
# A rank whose peer is gone says the first and calls abort, which the second tells: consequences.
REPORTERS = (re.compile(r"reported by process \[\d+,(\d+)\]"), re.compile(r"process rank (\d+) with PID \d+ on node \S+ calling"))


@dataclass(frozen=True)
class OpenMpi(Mpi):
    """Its mpirun."""

    KIND: ClassVar[str] = "openmpi"
    PROGRAM: ClassVar[str] = "ompirun_wrapper"  # ``mpiexec`` is whichever wheel came last
    LIBRARY: ClassVar[str] = "libmpi.so.40"

    def tolerance(self) -> list[str]:
        return ["--with-ft", "ulfm"]

    def options(self, hosts: list[Host], exported: Iterable[str]) -> list[str]:
        unbound = ["--map-by", "slot:OVERSUBSCRIBE" if hosts else ":OVERSUBSCRIBE", "--bind-to", "none"]
        if not hosts:
            return unbound
        names = [name for name in exported if name.isidentifier() and not name.startswith(OF_A_HOST)]
        # Attached: its daemons would leave the sight of who started them.
        reached = ["--leave-session-attached", "--prefix", self.prefix or str(Path(self.mpiexec).parent.parent)]
        return [*unbound, *reached, "--host", listed(hosts), *(word for name in names for word in ("-x", name))]

    def environment(self, inherited: Mapping[str, str], scratch: str, agent: str | None = None) -> dict[str, str]:
        clean = super().environment(inherited, scratch, agent)
        if agent is None:
            clean.setdefault("OMPI_MCA_btl", "^ofi")  # probing it takes a second, and one machine has no use for it
        else:
            clean |= settings_of_agent(agent)
        clean |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # containers have no other user
        clean |= {"PRTE_MCA_prte_tmpdir_base": scratch, "OMPI_MCA_orte_tmpdir_base": scratch}  # version 5, version 4
        if self.prefix is not None:
            clean["OPAL_PREFIX"] = self.prefix
        return clean

    @staticmethod
    def read_log(log: str) -> LogFindings:
        processes = [(int(pid), host) for pid, host in DEAD.findall(log)]
        ranks = list(map(int, DEAD_RANK.findall(log)))
        return LogFindings(processes, ranks, {int(rank) for pattern in REPORTERS for rank in pattern.findall(log)})


def settings_of_agent(agent: str) -> dict[str, str]:
    """Those of version 5 and those of version 4, under which we start its daemon on each host ourselves."""
    agent = f"/bin/sh {agent}"  # each daemon looks whether the program is there, though it will not call it
    return {
        "PRTE_MCA_plm": "ssh", "PRTE_MCA_plm_ssh_agent": agent, "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
        "OMPI_MCA_plm": "rsh", "OMPI_MCA_plm_rsh_agent": agent, "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
    }  # fmt: skip
