"""The cgroups of this process: what a container, or a job of a batch system, may use of the machine."""

from pathlib import Path

__all__ = ["cgroups_of", "cpu_quota", "own_cgroups"]

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def cpu_quota() -> float | None:
    """Processors' worth of time that this process' cgroup (version 2) allows, or None."""
    limits = []
    for group in own_cgroups():
        if (group / "cpu.max").is_file():
            allowed, period = (group / "cpu.max").read_text().split()
            limits += [int(allowed) / int(period)] if allowed != "max" else []
    return min(limits, default=None)


def own_cgroups() -> list[Path]:
    """The folders of this process' cgroup (version 2) and of those around it."""
    return cgroups_of("")


def cgroups_of(controller: str) -> list[Path]:
    """The same, of a controller of version 1; of version 2 for none."""
    lines = OWN_CGROUP.read_text(errors="replace").splitlines() if OWN_CGROUP.is_file() else []
    entries = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    own = next((path for number, names, path in entries if (controller in names.split(",") if controller else number == "0")), None)
    if own is None:
        return []
    root = CGROUPS / controller
    path = root / own.lstrip("/")
    return [group for group in (path, *path.parents) if group.is_relative_to(root)]
