"""Printing a trace: as C for the engine's own kernels, as Python for numba.

``python -m dkcore.emit adag`` shows the C of a rule (or of a pass of a codec: ``int8_encode``), ``--python`` the numba
source of a rule; ``--all FILE`` writes the C file that the build compiles once for every instruction set.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dkcore.formula.rule import Rule
from dkcore.formula.trace import Node

if TYPE_CHECKING:
    from dkcore.engine.codec_formulas import Pass

__all__ = ["c_kernel", "c_source", "looks", "only_read", "python_kernel"]

SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "less": "<", "less_equal": "<=", "greater": ">"}
SYMBOLS |= {"greater_equal": ">=", "equal": "==", "not_equal": "!=", "bitwise_and": "&", "bitwise_or": "|"}
C = {"where": "{0} ? {1} : {2}", "invert": "!{0}", "sqrt": "DK_SQRT({0})", "absolute": "DK_ABS({0})", "rint": "DK_RINT({0})"}
PYTHON = {"where": "{1} if {0} else {2}", "invert": "not {0}", "sqrt": "sqrt({0})", "absolute": "abs({0})", "rint": "rint({0})"}
BOTH = {"negative": "-{0}", "square": "{0} * {0}"} | {op: f"{{0}} {symbol} {{1}}" for op, symbol in SYMBOLS.items()}
TYPES = {"float32": "float", "float64": "double"}
MACROS = {"DK_SQRT": "sqrt", "DK_ABS": "fabs", "DK_RINT": "rint"}
STORAGES = ("same", "bf16", "fp16", "int8")  # kinds of a node that is stored in another format; see src_ext/storage.h
MOST = {"float32": 3.4028234663852886e38, "float64": 1.7976931348623157e308}  # what is finite is not beyond it
LOOK = 128  # elements that a kernel looks at, then exchanges: DK_LOOK of src_ext/kernel.h
LETTERS = {"vector": "x", "scalar": "k", "mask": "m", "flag": "m"} | dict.fromkeys(STORAGES, "s")


def used(rule: "Rule | Pass") -> list[int]:
    """Indices of the nodes that some output needs, in order."""
    wanted, stack = set(), list(rule.outputs.values())
    while stack:
        index = stack.pop()
        if index not in wanted:
            wanted.add(index)
            if rule.nodes[index].op not in ("vector", "scalar", "constant"):
                stack += rule.nodes[index].args
    return sorted(wanted)


def expression(rule: "Rule | Pass", node: Node, syntax: dict[str, str]) -> str:
    """One node as text; a vector's use of a scalar names its cast (k) and not the double (d)."""
    inside = node.kind not in ("scalar", "flag")
    kinds = [rule.nodes[index].kind for index in node.args]
    names = [f"{'d' if kind == 'scalar' and not inside else LETTERS[kind]}{index}" for kind, index in zip(kinds, node.args, strict=True)]
    if node.op in ("store", "load"):
        return f"DK_{node.op.upper()}_{node.kind if node.op == 'store' else kinds[0]}({names[0]})"
    return (BOTH | syntax)[node.op].format(*names)


def lines_of(rule: "Rule | Pass", syntax: dict[str, str]) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """What is computed before the loop and inside it, as (type, name, expression); types: double, cast, flag, T, mask, STORAGES."""
    before, inside = [], []
    kept = used(rule)
    cast = {arg for index in kept if rule.nodes[index].kind not in ("scalar", "flag") for arg in rule.nodes[index].args}
    for index in kept:
        node = rule.nodes[index]
        if node.op == "vector":
            inside.append((node.kind.replace("vector", "T"), f"{LETTERS[node.kind]}{index}", f"{pointer(node.args[0])}[i]"))
        elif node.kind == "scalar":
            if node.op == "scalar":
                text = f"scalars[{rule.scalars.index(node.args[0])}]"
            else:
                text = repr(node.args[0]) if node.op == "constant" else expression(rule, node, syntax)
            before.append(("double", f"d{index}", text))
            if index in cast:
                before.append(("cast", f"k{index}", f"d{index}"))
        elif node.kind == "flag":
            before.append(("flag", f"m{index}", expression(rule, node, syntax)))
        else:
            inside.append((node.kind.replace("vector", "T"), f"{LETTERS[node.kind]}{index}", expression(rule, node, syntax)))
    return before, inside


def stores(rule: "Rule | Pass") -> list[tuple[str, str]]:
    """(vector, new value) for all that the pass changes; the previous becomes the new worker in the same pass."""
    targets = dict(rule.outputs) | ({"p": rule.outputs["w"]} if "p" in rule.vectors and "w" in rule.outputs else {})
    own = {name: index for index, name in enumerate(rule.vectors)}
    return [(name, f"{LETTERS[rule.nodes[index].kind]}{index}") for name, index in targets.items() if index != own[name]]


def only_read(rule: Rule) -> int:
    """Bits of the vectors that the pass does not change.

    >>> from dkcore.rules import easgd
    >>> only_read(easgd.gather)  # (c, w, m): the center
    1
    """
    changed = {name for name, _ in stores(rule)}
    return sum(1 << index for index, name in enumerate(rule.vectors) if name not in changed)


def pointer(vector: str) -> str:
    """The name of a vector in the kernel; a state may be called like one of the kernel's own (n, i, x1)."""
    return f"{vector}_"


def looks(rule: "Rule | Pass") -> bool:
    """Whether it has a worker, which a kernel may look at."""
    return isinstance(rule, Rule) and "w" in rule.vectors


def c_kernel(rule: "Rule | Pass", dtype: str, looking: bool = False) -> str:
    """The kernel as a C function ``DK_NAME(rule_dtype)``; see dk_kernel in src_ext/dkcore.h for its arguments.

    looking: as ``DK_NAME(rule_dtype_looking)``, see dk_looking there.
    """
    real = TYPES[dtype]
    types = dict.fromkeys(STORAGES, "int32_t") | {"double": "double", "cast": real, "flag": "int", "T": real, "mask": "int", "same": real}
    before, inside = lines_of(rule, C)
    constant = "    const {0} {1} = {2};"
    returns, suffix = ("size_t", "_looking") if looking else ("void", "")
    out = [f"static {returns} DK_NAME({rule.name}_{dtype}{suffix})(size_t n, void *const *vectors, const double *scalars) {{"]
    stored = {name for name, _ in stores(rule)}
    for index, name in enumerate(rule.vectors):
        qualifier = "" if name in stored else "const "
        kind = rule.nodes[index].kind  # the first nodes of a trace are its vectors
        held = real if kind == "vector" else f"dk_{dtype if kind == 'same' else kind}"
        out.append(f"    {qualifier}{held} *restrict {pointer(name)} = vectors[{index}];")
    for kind, name, text in before:
        out.append(constant.format(types[kind], name, f"({real}){text}" if kind == "cast" else text))
    if not rule.scalars:
        out.append("    (void)scalars;")
    body = ["    " + constant.format(types[kind], name, text) for kind, name, text in inside]
    body += [f"        {pointer(name)}[i] = {value};" for name, value in stores(rule)]
    if looking:
        out += [
            "    for (size_t at = 0, end; at < n; at = end) {",
            "        end = n - at < DK_LOOK ? n : at + DK_LOOK;",
            f"        if (!dk_look_{dtype}(end - at, {pointer('w')} + at))",
            "            return at;",
            "        for (size_t i = at; i < end; i++) {",
            *(f"    {line}" for line in body),
            "        }",
            "    }",
            "    return n;",
        ]
    else:
        out += ["    for (size_t i = 0; i < n; i++) {", *body, "    }"]
    return "\n".join([*out, "}"]) + "\n"


def python_kernel(rule: Rule, dtype: str, looking: bool = False) -> str:
    """The kernel as Python source that numba compiles: a function ``kernel(n, vectors, scalars)``. looking: see dk_looking."""
    before, inside = lines_of(rule, PYTHON)
    out = ["from math import sqrt", f"from numpy import {dtype} as T, rint", "", "", "def kernel(n, vectors, scalars):"]
    out += [f"    {pointer(name)} = vectors[{index}]" for index, name in enumerate(rule.vectors)]
    out += [f"    {name} = {f'T({text})' if kind == 'cast' else text}" for kind, name, text in before]
    body = [f"        {name} = {text}" for _, name, text in inside]
    body += [f"        {pointer(name)}[i] = {value}" for name, value in stores(rule)]
    if looking:
        out += [
            f"    most, at = T({MOST[dtype]!r}), 0",
            "    while at < n:",
            f"        end = min(n, at + {LOOK})",
            "        bad = False",
            "        for i in range(at, end):",
            f"            bad |= not abs({pointer('w')}[i]) <= most",
            "        if bad:",
            "            return at",
            "        for i in range(at, end):",
            *(f"    {line}" for line in body),
            "        at = end",
            "    return n",
        ]
    else:
        out += ["    for i in range(n):", *body]
    return "\n".join(out) + "\n"


def builtin() -> "dict[str, Rule | Pass]":
    """All that is printed as C at build: the rules, the formulas that merge nodes, and the passes of codecs."""
    from dkcore.engine.codec_formulas import PASSES
    from dkcore.engine.merge_formulas import FORMULAS
    from dkcore.rules import REGISTRY

    return REGISTRY | FORMULAS | PASSES


def c_source() -> str:
    """All of `builtin` in all dtypes, with their table: compiled once for each instruction set, as DK_ISA."""
    rules = {rule.name: rule for rule in builtin().values()}
    out = ["/* Generated by `python -m dkcore.emit --all` from dkcore/rules.py, formulas.py and codecs.py. */"]
    out += ['#include "kernel.h"', '#include "storage.h"', ""]
    for dtype in TYPES:
        suffix = "f" if dtype == "float32" else ""
        out += [line for macro, function in MACROS.items() for line in (f"#undef {macro}", f"#define {macro} {function}{suffix}")]
        out += ["", *(c_kernel(rule, dtype) for rule in rules.values())]
        out += [c_kernel(rule, dtype, looking=True) for rule in rules.values() if looks(rule)]
    out.append("const dk_builtin DK_NAME(dk_builtins)[] = {")
    for dtype in TYPES:
        for name, rule in rules.items():
            looking = f"DK_NAME({rule.name}_{dtype}_looking)" if looks(rule) else "0"
            out.append(f'    {{"{name}", "{dtype}", DK_ISA_NAME, DK_NAME({rule.name}_{dtype}), {looking}}},')
    return "\n".join([*out, "    {0, 0, 0, 0, 0},", "};"]) + "\n"


def main() -> None:
    """The command line: see the module's docstring."""
    rules = builtin()
    parser = argparse.ArgumentParser(prog="python -m dkcore.emit", description="Show the generated code of a rule.")
    parser.add_argument("rule", nargs="?", choices=sorted(rules), help="a built-in rule or formula, or a pass of a codec")
    parser.add_argument("--dtype", choices=sorted(TYPES), default="float32")
    parser.add_argument("--python", action="store_true", help="the source for numba instead of C")
    parser.add_argument("--all", metavar="FILE", type=Path, help="write the C of all rules to FILE")
    options = parser.parse_args()
    if options.all:
        options.all.write_text(c_source())
    elif not options.rule:
        parser.error("name a rule, or --all FILE")
    elif not options.python:
        print(c_kernel(rules[options.rule], options.dtype), end="")
    elif isinstance(rule := rules[options.rule], Rule):
        print(python_kernel(rule, options.dtype), end="")
    else:
        parser.error("numba compiles rules only; show a pass of a codec without --python")


if __name__ == "__main__":
    main()
