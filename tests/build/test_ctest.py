"""The engine's own tests, in C: as it is shipped, under ThreadSanitizer, and under AddressSanitizer with UBSan."""

import re

import pytest
from c_engine import ROOT, build, run


@pytest.mark.parametrize(
    ("folder", "sanitize", "names"),
    [
        ("ctest", "", {"engine", "kernels", "threads", "death", "close", "kill", "random_kills", "lease", "codec", "gate", "merge"}),
        (
            "tsan",
            "thread",
            {"engine", "kernels", "threads", "death", "close", "codec", "gate", "merge"},
        ),  # it watches the threads of one process
        (
            "asan",
            "address,undefined",
            {"engine", "kernels", "threads", "death", "close", "kill", "random_kills", "lease", "codec", "gate", "merge"},
        ),
    ],
)
def test_the_engine_in_c(folder, sanitize, names):
    path = build(folder, sanitize=sanitize)
    output = run("ctest", "--test-dir", str(path), "--output-on-failure", "--no-tests=error")
    assert set(re.findall(r"Test +#\d+: (\w+) \.+ +Passed", output)) == names


def test_no_file_of_the_engine_calls_one_below_it():
    """They have an order, that of CMakeLists.txt: so no two call each other, be it by way of others."""
    path = build("ctest", "dkcore_engine")
    listed = re.search(r"set\(ENGINE\n(.*?)\)", (ROOT / "CMakeLists.txt").read_text(), re.DOTALL)[1]
    order = [f"{name}.o" for name in re.findall(r"src_ext/(\w+\.c)", listed)]
    symbols = [re.split(r"[: ]+", line) for line in run("nm", "-A", "-g", str(path / "libdkcore_engine.a")).splitlines()]
    where = {name: file for _, file, *_, kind, name in symbols if kind != "U" and file in order}
    assert set(where.values()) == set(order)
    calls = {(file, where[name]) for _, file, *_, kind, name in symbols if kind == "U" and name in where}
    assert [call for call in calls if order.index(call[0]) < order.index(call[1])] == []
