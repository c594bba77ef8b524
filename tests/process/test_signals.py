"""Signals: a script's own handlers are the script's, and whoever waits in the engine hears Ctrl-C at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mpi_ranks import environment, mpi_of, write_script

OWN = """
import numpy as np
stop = []
center = dk.Center.of(np.zeros(1000, np.float32), world)
signal.signal(signal.{name}, lambda *_: stop.append(1))
w = center.snapshot()
p = w.copy()
open(f"{{sys.argv[0]}}.{{os.getpid()}}", "w").close()
while not stop:
    w += 1
    center.exchange(dk.rules.downpour, w, p)
    time.sleep(0.01)
time.sleep(2.5)  # what a save takes
center.finish()
print("saved", flush=True)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_handler_that_a_script_sets_after_init_is_the_script_s(name, tmp_path):
    """Nobody ends the job because that handler does not raise, and goes on."""
    script = Path(write_script(tmp_path, OWN.format(name=name)))
    from dkcore.launch.mpi import find_mpi

    command = [*find_mpi(mpi_of("mpich")).command(2), sys.executable, str(script)]
    with subprocess.Popen(command, env=environment("mpich"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as mpiexec:
        try:
            while len(pids := [int(path.suffix[1:]) for path in tmp_path.glob("script.py.*")]) < 2:
                assert mpiexec.poll() is None
                time.sleep(0.02)
            for pid in pids:
                os.kill(pid, getattr(signal, name))
            out, err = mpiexec.communicate(timeout=30)
        finally:
            mpiexec.kill()  # for a test that failed before it ended
    # mpiexec forwards what ranks write in pieces, so that two lines may come mixed.
    assert (mpiexec.returncode, out.count("saved"), err) == (0, 2, "")


WAITS = {
    "attach": "dk.Center.attach('never', timeout=60)",
    "a stripe": "center.snapshot()",
    "an exchange at a stripe": "center.exchange(dk.rules.aeasgd, np.zeros(1000))",
    "a pull at a stripe": "center.worker().pull_call().flat(np.zeros(1000))",
    "a slower worker": "[call.flat(np.zeros(1000)) for _ in range(2)]",
    "a gate": "center.segment.wait(0, center.segment.arrive(0), 60.0)",
    "members of a gate": "center.segment.await_members(0, 60.0)",
    "a stripe, for a merge": "merge.run(0, 1, (np.zeros(1000),))",
}
WAITING = """
import signal, threading, time
from dkcore.engine.load import engine
from dkcore.engine.merge_formulas import FORMULAS
from dkcore.engine.compile import compile_kernel
def interrupt():
    time.sleep(0.2)
    sent.append(time.monotonic())
    signal.raise_signal(signal.SIGINT)
def heard(center, wait):
    sent.clear()
    slow, fast = center.worker(), center.worker()
    call = fast.call(dk.rules.aeasgd, max_staleness=0, patience=60)
    formula, roles = FORMULAS["merge_put_back"], [engine().Role.CENTER, engine().Role.OUTSIDE]
    merge = engine().Pass(center.segment, compile_kernel(formula, center.dtype), roles, formula.scalars, 60.0, 0, center.size)
    center.segment.set_members(0, 9)
    use = eval("lambda: " + wait, {"np": np, "dk": dk, "center": center, "call": call, "merge": merge})
    threading.Thread(target=interrupt).start()
    try:
        use()
    except KeyboardInterrupt:
        return time.monotonic() - sent[0]
    finally:
        slow.release()
        fast.release()
sent = []
center, held = dk.Center.attach(sys.argv[1]), dk.Center.attach(sys.argv[2])
for wait in sys.argv[3:]:
    print(heard(held if "stripe" in wait else center, wait.partition(":")[2]) < 5, wait, flush=True)
"""
HOLDER = """
import ctypes, os, signal
from dkcore import rule
libc = ctypes.CDLL(None)
center = dk.Center.attach(sys.argv[1])
@ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
def stop(n, vectors, scalars):
    print("holds", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
class Kernel:
    address = ctypes.cast(stop, ctypes.c_void_p).value
center.worker().call(dk.rules.aeasgd, kernel=Kernel()).flat(np.zeros(1000))
"""


def test_whoever_waits_in_the_engine_hears_ctrl_c(script):
    """All waits in turn; one neighbour was stopped while it holds a stripe."""
    import numpy as np

    import dkcore as dk

    with dk.Center.create(np.zeros(1000)) as center, dk.Center.create(np.zeros(1000)) as held:
        holder = script(HOLDER, held.name)
        assert holder.line() == "holds"
        waits = [f"{name}:{wait}" for name, wait in WAITS.items()]
        output = script(WAITING, center.name, held.name, *waits).end()
        assert output.splitlines() == [f"True {wait}" for wait in waits]
        holder.kill()


HANDLED = """
import signal, threading, time
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(time.monotonic()))
def interrupt():
    for _ in range(3):
        time.sleep(0.2)
        signal.raise_signal(signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    dk.Center.attach("never", timeout=1.0)
except dk.errors.CenterNotFoundError:
    print(len(heard))
"""


def test_a_handler_that_raises_nothing_does_not_end_a_wait(script):
    assert script(HANDLED).end() == "3\n"
