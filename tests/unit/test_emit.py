"""Printing: what `python -m dkcore.emit` shows is what is compiled, and nothing that is not needed."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import laws
import pytest
from test_laws import everything

import dkcore as dk
from dkcore.engine import codec_formulas, emit

ROOT = Path(__file__).resolve().parents[2]


def show(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "dkcore.emit", *arguments], capture_output=True, text=True, check=False)


def test_the_command_shows_the_c_of_a_rule():
    shown = show("adag")
    assert shown.returncode == 0
    assert shown.stdout == emit.c_kernel(dk.rules.adag, "float32")
    assert "static void DK_NAME(adag_float32)(size_t n, void *const *vectors, const double *scalars) {" in shown.stdout
    for line in ("const float x4 = x1 - x2;", "const float x5 = x4 / k3;", "const float x6 = x0 + x5;", "c_[i] = x6;"):
        assert line in shown.stdout
    assert show("adag", "--dtype", "float64").stdout == emit.c_kernel(dk.rules.adag, "float64")
    assert show("adag", "--python").stdout == emit.python_kernel(dk.rules.adag, "float32")


def test_the_command_shows_the_c_of_a_codec():
    shown = show("int8_encode")
    assert shown.returncode == 0
    assert shown.stdout == emit.c_kernel(codec_formulas.PASSES["int8_encode"], "float32")
    for line in ("dk_int8 *restrict stored_ = vectors[1];", "DK_STORE_int8(", "stored_[i] = s16;"):
        assert line in shown.stdout
    assert "numba compiles rules only" in show("int8_encode", "--python").stderr


def test_the_command_refuses_an_unknown_rule():
    assert "invalid choice: 'adagg'" in show("adagg").stderr
    assert "name a rule, or --all FILE" in show().stderr


@pytest.mark.parametrize("dtype", laws.DTYPES)
@pytest.mark.parametrize("rule", [*laws.RULES, everything], ids=lambda rule: rule.name)
def test_nothing_unused_is_printed(rule, dtype):
    """Every name that is computed is used; what a formula computes in vain is left out."""
    for source in (emit.c_kernel(rule, dtype), emit.python_kernel(rule, dtype)):
        for name in re.findall(r"\b([xdkm]\d+) = ", source):
            assert len(re.findall(rf"\b{name}\b", source)) > 1, f"{name} is unused in\n{source}"


def test_what_a_formula_computes_in_vain_is_left_out():
    @dk.rule
    def wasteful(c, w, p, *, lr, unused=1.0):
        c * w / lr - p
        return c, c

    assert "/" not in emit.c_kernel(wasteful, "float32")
    assert "scalars[" not in emit.c_kernel(wasteful, "float32")


@pytest.mark.parametrize("dtype", laws.DTYPES)
def test_the_c_of_every_operation_computes_what_numpy_does(dtype, tmp_path):
    """No built-in rule has a choice or a mask, but one to come may: their C is compiled here, warnings being errors."""
    real = "f" if dtype == "float32" else ""
    source = "#include <stddef.h>\n#include <math.h>\n#define DK_NAME(x) x\n"
    source += f"#define DK_SQRT sqrt{real}\n#define DK_ABS fabs{real}\n#define DK_RINT rint{real}\n"
    name = f"{everything.name}_{dtype}"
    text = source + emit.c_kernel(everything, dtype) + f"void (*kernel)(size_t, void *const *, const double *) = {name};\n"
    (tmp_path / "kernel.c").write_text(text)
    command = [shutil.which("cc"), "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-shared", "-fPIC"]
    subprocess.run([*command, tmp_path / "kernel.c", "-o", tmp_path / "kernel.so", "-lm"], check=True)
    address = ctypes.c_void_p.in_dll(ctypes.CDLL(str(tmp_path / "kernel.so")), "kernel").value
    vectors, scalars = laws.vectors_of(everything, dtype, 10_007), laws.scalars_of(everything)
    laws.assert_same_bits(laws.run(address, vectors, scalars), laws.reference(everything, vectors, scalars), everything.vectors)
