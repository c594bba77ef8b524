"""What /proc says of memory."""

from collections.abc import Callable
from pathlib import Path

__all__ = ["own_memory", "peak", "shared_memory"]

RESET_PEAK = "5"  # what /proc/PID/clear_refs wants to hear (proc(5))


def own_memory() -> int:
    """Bytes of anonymous memory of this process: what it shares with nobody."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Anonymous:"))) * 1024


def peak(run: Callable[[], None]) -> int:
    """Bytes by which this process' resident memory rises while ``run`` runs, at the most: its temporaries."""
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before = resident()
    run()
    return max(resident() - before, 0)


def resident() -> int:
    """Bytes of resident memory, at the most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024


def shared_memory() -> int:
    """Bytes that all centers on this machine take."""
    return sum(path.stat().st_blocks * 512 for path in Path("/dev/shm").glob("dkcore-*"))
