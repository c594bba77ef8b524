"""What a failed job under Spark may have left on this machine, and functions that its ranks run."""

import json
import os
import tempfile
import time
from pathlib import Path

PROGRAMS = ("hydra_pmi_proxy", "mpiexec.hydra", "dkcore.worker", "dkcore.seats.worker", "dkcore/seats/starter.py", "dkcore/ranks/reaper.py")


def left_behind() -> list[str]:
    """Processes, shared memory and temporary directories of jobs, of this session of tests."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_text().replace("\0", " ")
                mine = os.readlink(entry / "ns/mnt") == os.readlink("/proc/self/ns/mnt")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if mine and any(program in command for program in PROGRAMS):
                found.append(f"{entry.name}: {command[:200]}")
    found += [str(path) for path in Path("/dev/shm").iterdir() if path.name.startswith(("dkcore-", "mpich_shm_"))]
    return found + [str(path) for path in Path(tempfile.gettempdir()).glob("dkcore-spark-*")]


def await_clean(seconds: float = 10.0) -> list[str]:
    """What is left behind still after that time."""
    deadline = time.monotonic() + seconds
    while (found := left_behind()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def linger(folder: str) -> None:
    """Share a center, say who this is, and stay."""
    import numpy as np

    import dkcore

    world = dkcore.init()
    center = dkcore.Center.of(np.zeros(1000), world)
    Path(folder, f"draft-{world.rank}").write_text(json.dumps({"pid": os.getpid(), "proxy": os.getppid(), "center": center.name}))
    Path(folder, f"draft-{world.rank}").rename(Path(folder, f"rank-{world.rank}.json"))
    print("lingering", world.rank)
    time.sleep(300)


def pids(folder: Path, ranks: int = 2) -> list[dict]:
    """What the ranks said, once all have."""
    deadline = time.monotonic() + 120
    while len(list(folder.glob("rank-*.json"))) < ranks:
        assert time.monotonic() < deadline, "the ranks did not begin"
        time.sleep(0.05)
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(ranks)]
