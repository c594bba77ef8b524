"""A part of the proof that an exchange is exact under kill -9; all of it is ``make proof``."""

import os
import platform
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "proof"))

import c_engine
from mutants import MUTANTS
from prove import FOLDER, catch, prove, schedule

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="single steps are proven on x86_64")
ALWAYS = ["adagrad64/stripe"]  # half a million single steps; more of them make virtual machines stand still now and then


@pytest.fixture(scope="module")
def proof():
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # a process that steps another is several times faster if both have the same core
    yield c_engine.build(FOLDER, "prove_kills", "prove_schedules")
    os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("scenario", ALWAYS)
def test_after_a_kill_at_any_instruction_the_center_is_exact(proof, scenario):
    said = prove(proof / "prove_kills", scenario)
    assert "0 faults" in said, said


@pytest.mark.parametrize("undo", ["block", "stripe"])
def test_in_any_order_of_two_workers_and_a_death_the_center_is_exact(proof, undo):
    said = schedule(proof / "prove_schedules", 1, undo, 0, 1)
    assert "0 faults" in said, said


@pytest.mark.parametrize("mutant", MUTANTS[:1], ids=lambda mutant: mutant.name)
def test_a_broken_protocol_is_caught(proof, mutant):
    assert ": caught:" in catch(mutant, proof)
