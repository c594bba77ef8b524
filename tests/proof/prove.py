"""The proof that an exchange is exact under kill -9, as far as programs can give one: ``make proof``.

It prints a certificate: how many deaths and states were tried, and that none was a fault. Mutants are engines that were broken on
purpose; each must be caught. See docs/decisions/0010-exact-exchange.md.
"""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import c_engine
from mutants import MUTANTS, Mutant, build_mutant

FOLDER = "proof"


def scenarios() -> list[str]:
    """Names of those of prove_kills, longest first, so that none is left over at the end."""
    text = (Path(__file__).parent / "prove_kills.c").read_text()
    return sorted(re.findall(r'^ +\{"(\S+?)", "\w+", [48],', text, re.MULTILINE), key=lambda name: not name.endswith("+"))


def prove(program: Path, scenario: str) -> str:
    """What it says; a fault with the law that does not hold."""
    done = subprocess.run([program, scenario], capture_output=True, text=True, check=False, timeout=600)
    return done.stdout.strip() if done.returncode == 0 else f"{scenario}: FAULT: {done.stderr.strip() or done.returncode}"


def catch(mutant: Mutant, proof: Path) -> str:
    said = prove(build_mutant(mutant, proof), mutant.scenario)
    what = "caught" if "FAULT" in said else "NOT CAUGHT"
    return f"mutant: {mutant.name}: {what}: {said.rpartition(': FAULT: ')[2]}"


def keep_to_one(cores: list[int]) -> None:
    """A process that steps another is several times faster if both have the same core."""
    os.sched_setaffinity(0, {cores.pop()})


def main() -> int:
    start = time.monotonic()
    proof = c_engine.build(FOLDER, "prove_kills")
    cores = sorted(os.sched_getaffinity(0))
    with ThreadPoolExecutor(len(cores), initializer=keep_to_one, initargs=(cores,)) as pool:
        kills = [pool.submit(prove, proof / "prove_kills", name) for name in scenarios()]
        mutants = [pool.submit(catch, mutant, proof) for mutant in MUTANTS]
        lines = []
        for each in [*kills, *mutants]:
            lines.append(each.result())
            print(lines[-1], flush=True)
    tried = sum(int(number) for line in lines for number in re.findall(r"(\d+) kills", line))
    faults = sum("FAULT" in line or "NOT CAUGHT" in line for line in lines)
    print(f"certificate: {tried} kills, {len(MUTANTS)} mutants, {faults} faults, {time.monotonic() - start:.0f} s")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
