"""The proof that an exchange is exact under kill -9, as far as programs can give one: ``make proof``.

It prints a certificate: how many deaths and states were tried, and that none was a fault. Mutants are engines that were broken on
purpose; each must be caught. See docs/decisions/0010-exact-exchange.md.
"""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import c_engine
from model import MODEL_MUTANTS, MODELS, missing, search
from mutants import MUTANTS, Mutant, build_mutant

FOLDER, PARTS = "proof", 4


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


def schedule(program: Path, changes: int, undo: str, part: int, of: int) -> str:
    done = subprocess.run([program, *map(str, (changes, undo, part, of))], capture_output=True, text=True, check=False, timeout=600)
    said = done.stdout.strip() if done.returncode == 0 else f"FAULT: {done.stderr.strip() or done.returncode}"
    return f"schedules, undo={undo}, part {part + 1} of {of}: {said}"


def catch_in_model(name: str, option: str, folder: Path) -> str:
    what = "NOT CAUGHT" if " 0 faults" in search(name, option, folder) else "caught"
    return f"mutant of the model: {name}: {what}"


def tasks(pool: Executor, proof: Path) -> list[Future[str]]:
    """All parts of the proof, the longest first."""
    wanted = []
    if not missing():
        wanted += [pool.submit(search, name, options, proof / "model") for name, options in MODELS.items()]
        wanted += [pool.submit(catch_in_model, name, option, proof / "mutants") for name, option in MODEL_MUTANTS.items()]
    wanted += [pool.submit(schedule, proof / "prove_schedules", 2, "block", part, PARTS) for part in range(PARTS)]
    wanted += [pool.submit(schedule, proof / "prove_schedules", 1, "stripe", 0, 1)]
    wanted += [pool.submit(prove, proof / "prove_kills", name) for name in scenarios()]
    return wanted + [pool.submit(catch, mutant, proof) for mutant in MUTANTS]


def total(lines: list[str], what: str) -> int:
    return sum(int(number) for line in lines for number in re.findall(rf"(\d+) {what}", line))


def main() -> int:
    start = time.monotonic()
    proof = c_engine.build(FOLDER, "prove_kills", "prove_schedules")
    cores = sorted(os.sched_getaffinity(0))
    lines = [missing() or "model: searched by SPIN"]
    print(lines[0])
    with ThreadPoolExecutor(len(cores), initializer=keep_to_one, initargs=(cores,)) as pool:
        for each in tasks(pool, proof):
            lines.append(each.result())
            print(lines[-1], flush=True)
    mutants = sum(": caught" in line for line in lines)
    faults = sum("FAULT" in line or "NOT CAUGHT" in line for line in lines)
    counts = ", ".join(f"{total(lines, what):,} {what}" for what in ("kills", "schedules", "states"))
    print(f"certificate: {counts}, {mutants} mutants caught, {faults} faults, {time.monotonic() - start:.0f} s")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
