"""Finding and compiling the TensorFlow op, with a stand-in for TensorFlow; backends/replica_laws.py has the real one."""

import sys
from types import SimpleNamespace

import pytest

from dkcore.errors import MissingError
from dkcore.replica import tensorflow_op

COMMAND = "python -m dkcore.tensorflow_op"


def tensorflow(version="2.99.0", git="v2.99.0-0-gabc", flags=("-I/nowhere", "--std=c++17"), links=("-lnothing",)):
    return SimpleNamespace(
        __version__=version,
        version=SimpleNamespace(GIT_VERSION=git, COMPILER_VERSION="Clang 99"),
        sysconfig=SimpleNamespace(get_compile_flags=lambda: list(flags), get_link_flags=lambda: list(links)),
        errors=SimpleNamespace(OpError=RuntimeError),
        load_op_library=lambda path: SimpleNamespace(dkcore_run=path),
    )


@pytest.fixture
def places(monkeypatch, tmp_path):
    """An installed package directory and a cache, both empty, and our TensorFlow."""
    package, cache = tmp_path / "package", tmp_path / "cache" / "dkcore"
    package.mkdir()
    monkeypatch.setattr(tensorflow_op, "PACKAGE", package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow())
    tensorflow_op.load.cache_clear()
    yield package, cache
    tensorflow_op.load.cache_clear()


def test_the_package_comes_before_the_cache(places):
    package, cache = places
    name = tensorflow_op.filename(tensorflow())
    cache.mkdir(parents=True)
    (cache / name).touch()
    assert tensorflow_op.find() == cache / name
    (package / name).touch()
    assert tensorflow_op.load() == str(package / name)


def test_an_op_for_another_tensorflow_is_named_and_never_loaded(places):
    package, _ = places
    others = [tensorflow(version="2.98.0"), tensorflow(git="v2.99.0-1-gdef")]
    for other in others:
        (package / tensorflow_op.filename(other)).touch()
    with pytest.raises(MissingError, match=COMMAND) as caught:
        tensorflow_op.load()
    assert all(tensorflow_op.filename(other) in str(caught.value) for other in others)


def test_another_source_is_another_op(places, monkeypatch, tmp_path):
    before = tensorflow_op.filename(tensorflow())
    source = places[0] / "source"
    source.mkdir()
    for name in ("op.cc", "CMakeLists.txt"):
        (source / name).write_bytes((tensorflow_op.CHECKOUT / name).read_bytes())
    assert tensorflow_op.source() == source
    assert tensorflow_op.filename(tensorflow()) == before
    (source / "op.cc").write_text("// changed")
    assert tensorflow_op.filename(tensorflow()) != before
    monkeypatch.setattr(tensorflow_op, "CHECKOUT", tmp_path / "nowhere")
    (source / "op.cc").unlink()
    with pytest.raises(MissingError, match="Install dkcore anew"):
        tensorflow_op.find()


def test_without_tensorflow(places, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    for function in (tensorflow_op.find, tensorflow_op.build, tensorflow_op.load):
        with pytest.raises(MissingError, match=r"pip install .dkcore\[tensorflow\]"):
            function()


def test_what_does_not_compile_says_why_and_leaves_nothing(places, tmp_path):
    with pytest.raises(MissingError, match=COMMAND) as caught:
        tensorflow_op.build(tmp_path / "here")
    assert "op.cc" in str(caught.value)  # the end of what the compiler said
    assert list((tmp_path / "here").iterdir()) == []


def test_without_cmake_or_compiler(places, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(MissingError, match="apt install"):
        tensorflow_op.build(tmp_path / "here")
    monkeypatch.setattr(tensorflow_op.shutil, "which", lambda *arguments, **options: None)
    with pytest.raises(MissingError, match="pip install cmake"):
        tensorflow_op.build(tmp_path / "here")


def test_cmake_by_hand_is_told_what_it_needs(tmp_path):
    with pytest.raises(MissingError, match="TENSORFLOW_COMPILE_FLAGS"):
        tensorflow_op.cmake("-S", str(tensorflow_op.CHECKOUT), "-B", str(tmp_path))


def test_the_command_reports_failure(places, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert tensorflow_op.main() == 1
    assert "Expected TensorFlow" in capsys.readouterr().err
