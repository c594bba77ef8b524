"""The fair share of a node's cores: which processors a rank may use, and how many threads its framework starts."""

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dkcore.errors import expected
from dkcore.ranks.cgroups import cpu_quota

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["Share", "fair_share", "room_for", "shares", "take_share"]

TOPOLOGY = Path("/sys/devices/system/cpu")
THREADS = Path("/proc/self/task")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """What one rank may use: ``threads`` of them, on the processors ``cpus`` (None: wherever it runs now)."""

    threads: int
    cpus: tuple[int, ...] | None = None


def take_share(node: "Comm") -> int:
    """Share the cores of this node among its ranks and keep to this rank's; returns the number of threads.

    node: the communicator of the ranks that share memory; all of them call it. It must come before the framework starts its
    threads; where it comes later, the threads that live already are moved, and the framework is asked to use fewer.
    ``DKCORE_CORES=k`` gives every rank k cores, ``DKCORE_CORES=0`` leaves everything as it is; ValueError for anything else.
    """
    mask = allowed()
    requested = requested_cores(os.environ.get("DKCORE_CORES"))
    share = fair_share(node.allgather(mask), node.rank, quota=cpu_quota(), requested=requested)
    if share.cpus is not None:
        pin(share.cpus)
    if share.threads != len(mask):
        os.environ.update(thread_counts(share.threads, os.environ))
        tell_frameworks(share.threads)
    return share.threads


def shares(count: int) -> list[Share]:
    """Of so many processes that this one will start, and that share what it may use; as `take_share`."""
    mask, requested = allowed(), requested_cores(os.environ.get("DKCORE_CORES"))
    return [fair_share([mask] * count, index, quota=cpu_quota(), requested=requested) for index in range(count)]


def room_for(share: Share | None) -> tuple[set[int], dict[str, str]]:
    """The processors of a process that this one will start, and what to add to its environment. None: what this process has."""
    own = set(allowed())
    if share is None:
        return own, {}
    return set(share.cpus or own), thread_counts(share.threads, os.environ) if share.threads != len(own) else {}


def allowed() -> tuple[int, ...]:
    """The processors that this process may use; all, where the system does not tell."""
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except OSError:
        return tuple(range(os.cpu_count() or 1))


def fair_share(masks: list[tuple[int, ...]], index: int, *, quota: float | None = None, requested: int | None = None) -> Share:
    """The share of rank ``index`` of a node, whose ranks may run on the processors ``masks``.

    Ranks with the same mask divide it. So ranks that Slurm or mpiexec bound apart keep what they have, and ranks that
    nobody bound divide the node. More ranks than processors take turns on them.

    >>> [fair_share([(0, 1, 2, 3)] * 2, index).cpus for index in range(2)]
    [(0, 1), (2, 3)]
    >>> [fair_share([(0, 1)] * 3, index).cpus for index in range(3)]
    [(0,), (1,), (0,)]
    >>> fair_share([(0, 1), (2, 3)], 1)
    Share(threads=2, cpus=None)
    """
    mask = masks[index]
    group = [rank for rank, other in enumerate(masks) if other == mask]
    place, ranks, cores = group.index(index), len(group), len(mask)
    if requested == 0:
        return Share(cores)
    if requested is None and quota is not None and quota < cores:
        # A container may use any processor, for part of the time: pinning would crowd all containers on the first ones.
        return Share(max(int(quota / len(masks)), 1))
    if requested is None and ranks == 1:
        return Share(cores)
    ordered = sorted(mask, key=core_of)
    if requested is not None:
        return Share(requested, tuple(sorted({ordered[(place * requested + offset) % cores] for offset in range(requested)})))
    if ranks > cores:
        return Share(1, (ordered[place % cores],))
    taken = ordered[place * cores // ranks : (place + 1) * cores // ranks]
    return Share(len(taken), tuple(sorted(taken)))


def requested_cores(text: str | None) -> int | None:
    """DKCORE_CORES as a number, None when unset."""
    if not text:
        return None
    if not text.isdigit():
        advice = "It is the number of cores of each rank; 0 leaves them as they are."
        raise ValueError(expected("DKCORE_CORES to be 0 or more", repr(text), advice))
    return int(text)


def core_of(cpu: int) -> tuple[int, int, int]:
    """A sort key that keeps the hardware threads of a core together, so that no two ranks share a core without need."""
    topology = TOPOLOGY / f"cpu{cpu}" / "topology"
    if not topology.is_dir():
        return 0, cpu, cpu
    return int((topology / "physical_package_id").read_text()), int((topology / "core_id").read_text()), cpu


def pin(cpus: tuple[int, ...]) -> None:
    """Move this process to these processors, the threads that it has already included; a sandbox may refuse it."""
    try:
        for thread in THREADS.iterdir():
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.sched_setaffinity(int(thread.name), cpus)
    except OSError as error:
        logger.warning("This rank is not kept to its %d processors: %s. It goes on without.", len(cpus), error)


def thread_counts(threads: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for frameworks that are yet to start; what the user has set in environ stays."""
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC")  # NPROC is what XLA's client for the CPU asks
    counts = {name: environ.get(name, str(threads)) for name in names}
    flags = environ.get("XLA_FLAGS", "")
    if threads == 1 and "xla_cpu_multi_thread_eigen" not in flags:
        counts["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    return counts


def tell_frameworks(threads: int) -> None:
    """Ask frameworks that are imported already; warn, once, of those that no longer listen."""
    late = []
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    if tensorflow := sys.modules.get("tensorflow"):
        try:
            tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
            tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError:  # its threads run already
            late.append("TensorFlow")
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge is not None and bridge.backends_are_initialized():
        late.append("JAX")
    if late:
        logger.warning(
            "%s started before dkcore.init(): it keeps more threads than this rank's %d. Call dkcore.init() first.",
            " and ".join(late),
            threads,
        )
