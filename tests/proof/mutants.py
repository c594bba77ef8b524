"""Engines whose protocol was broken on purpose: each must be caught, or the proof proves nothing."""

import re
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from c_engine import ROOT, run

__all__ = ["MUTANTS", "Mutant", "build_mutant"]

END = "    dk_commit_end(commit);\n"
UNLOCK = "    dk_stripe_unlock(center, s);\n"
ADDED = "        atomic_store_explicit(&commit->area->progress, commit->in << 32, memory_order_relaxed);\n"
MEND = "        dk_undo_mend(center, index);\n"
TOLD = "        dk_commit_tell_whole(commit);\n"
CLEARED = "        atomic_store_explicit(&commit->area->stripe, 0, memory_order_relaxed);\n"
SHOWN = "    dk_slot_show(worker, rank);\n"
MENDED = "    DK_CHECK(dk_undo_settle(center, slot + 1, PATIENCE));\n"
RECLAIMED = "    DK_CHECK(dk_lease_reclaim(center, worker->slot));\n"
UNTIL = "    PUT(hold->until, settled + batches);\n"
SETTLED = "    PUT(hold->settled, settled + batches);\n"


@dataclass(frozen=True)
class Mutant:
    """A name in words; the scenario of prove_kills that catches it; what is replaced: file of src_ext, old, new."""

    name: str
    scenario: str
    changes: tuple[tuple[str, str, str], ...]


MUTANTS = [
    Mutant("the version is complete after the unlock", "downpour32",
           (("exchange.c", END, ""), ("exchange.c", UNLOCK, UNLOCK + END.replace("(commit)", "(&commit)")))),
    Mutant("progress is told in two stores", "downpour32", (("undo.h", ADDED, ADDED.replace("<< 32", "<< 32 | n") + ADDED),)),
    Mutant("a slot is used before its dead owner's stripe is mended", "newcomer",
           (("worker.c", "DK_CHECK(dk_undo_settle(center, worker->slot + 1, DK_CLAIM_PATIENCE));", ""), ("ledger.c", MENDED, ""))),
    Mutant("the version is raised before the block is saved, and not made odd", "downpour32",
           (("undo.h", "commit->before + 1, memory_order_relaxed", "commit->complete, memory_order_relaxed"),)),
    Mutant("who mends takes the stripe over before it is mended", "several64+",
           (("stripe.c", MEND, "        atomic_store(&stripe->holder, holder);\n" + MEND),)),
    Mutant("who mends counts what the one before had counted", "several64+", (("undo.c", "stripe->mending = 1;", ""),)),
    Mutant("a place overwrites the one that is valid", "downpour32",
           (("slot.c", "PUT(slot->places[exchange % 2][0]", "PUT(slot->places[(exchange + 1) % 2][0]"),)),
    Mutant("a place is valid before all stripes have the exchange", "downpour32",
           (("exchange.c", "    dk_slot_begin(pass.worker);\n", "    dk_slot_begin(pass.worker), dk_slot_complete(pass.worker);\n"),
            ("exchange.c", "        dk_slot_complete(pass.worker);\n", ""))),
    Mutant("a slot is told of a stripe after the area is cleared", "downpour32",
           (("undo.h", TOLD, ""), ("undo.h", CLEARED, "{" + CLEARED + "if (whole)\n" + TOLD + "}"))),
    Mutant("who mends does not tell the slot", "downpour64", (("undo.c", "    tell(center, holder, area);\n", ""),)),
    Mutant("a lease is settled when its exchange begins", "downpour32", (("lease.c", UNTIL, UNTIL + SETTLED),)),
    Mutant("a lease is decided before the stripe is mended", "adagrad32",
           (("ledger.c", MENDED, ""),)),
    Mutant("a slot shows its new owner before the lease of the old one is decided", "newcomer",
           (("worker.c", RECLAIMED + SHOWN, SHOWN + RECLAIMED),)),
    Mutant("a change of leases is carried out without being valid", "leases/stripe+", (("ledger.c", "    ledger->valid = 1;\n", ""),)),
]  # fmt: skip


def build_mutant(mutant: Mutant, proof: Path) -> Path:
    """The program prove_kills with that engine; proof: where the whole one was built, whose kernels it takes."""
    folder = proof / "mutants" / re.sub(r"\W+", "-", mutant.name)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "src_ext", folder)
    for file, old, new in mutant.changes:
        text = (folder / file).read_text()
        assert text.count(old) == 1, f"the mutant {mutant.name!r} no longer fits {file}"
        (folder / file).write_text(text.replace(old, new))
    listed = re.search(r"set\(ENGINE\n(.*?)\)", (ROOT / "CMakeLists.txt").read_text(), re.DOTALL)[1]
    sources = [str(folder / name) for name in re.findall(r"src_ext/(\w+\.c)", listed)]
    sets = ["-DDK_HAVE_baseline"] + (["-DDK_HAVE_avx2", "-DDK_HAVE_avx512"] if "x86_64" in sysconfig.get_platform() else [])
    flags = ["-std=c11", "-O2", f"-I{folder}", f"-I{ROOT}/tests/c", "-DDK_FAULTS", "-DDK_BLOCK=16", "-DDK_WAITING=4", *sets]
    program = folder / "prove_kills"
    kernels = str(proof / "libdkcore_engine_proof.a")
    run(
        "cc",
        *flags,
        *sources,
        str(ROOT / "tests/proof/prove_kills.c"),
        kernels,
        "-Wl,-z,now",
        "-lm",
        "-lrt",
        "-lpthread",
        "-o",
        str(program),
    )
    return program
