"""How long does ``import dkcore`` take?"""

import subprocess
import sys

from bench.harness.case import Case

FRAMEWORKS = ("tensorflow", "jax", "torch", "keras", "mpi4py", "numba")


def cases(quick: bool) -> list[Case]:
    """One."""
    return [Case("import_s/dkcore")]


def bench_import(case, turns, quick):
    def verify() -> None:
        code = f"import sys, dkcore; print([name for name in {FRAMEWORKS} if name in sys.modules])"
        pulled = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
        assert pulled == "[]", f"import dkcore pulls in {pulled}"

    seconds = turns({"import": import_seconds}, rounds=7 if quick else 15, verify=verify)
    turns.figure(case.keys[0], seconds["import"], unit="s")


def import_seconds() -> float:
    """As a fresh interpreter measures it."""
    code = "import time; start = time.perf_counter(); import dkcore; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
