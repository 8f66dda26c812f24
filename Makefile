# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Both make the environment in .venv with plain venv and pip if it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One thread per process: on a busy machine two torch threads are slower than one.
export OMP_NUM_THREADS ?= 1
# glibc otherwise returns every large temporary to the system, which costs a CPU training 10 to 15 %.
export MALLOC_MMAP_THRESHOLD_ ?= 4000000000
export MALLOC_TRIM_THRESHOLD_ ?= 8000000000
# Byte code is compiled once, at installation: without it every start costs seconds.
unexport PYTHONDONTWRITEBYTECODE

# Each package that has an adapter, and each engine, goes into an environment of its own: mace and nequip want other releases of e3nn.
EXTRA ?= schnetpack torchmd mace nequip pyg metatomic openmm ipi lammps torchsim

.PHONY: help demo demo-full docs test test-adapters test-compiler test-response test-gpu test-page fuzz lint types format clean

help:
	@echo "make demo   train plain, wider and polarized PaiNN side by side on the repository's own DFT data: 4 minutes"
	@echo "make demo-full  the same for longer, with three seeds and a deeper network: 10 to 20 minutes"
	@echo "make docs   the documentation site, in site/"
	@echo "make test   lint, types, documents and all tests"
	@echo "make test-adapters  the adapters beside the packages they adapt; EXTRA=mace for one of them"
	@echo "make test-compiler  compiled training steps and exported models of all networks: several minutes and more"
	@echo "make test-response  the contract of responses to electric fields for all fifteen networks"
	@echo "make test-gpu    what a graphics processor computes, against the CPU"
	@echo "make test-page   the page of molecules in a headless Chromium (Debian: chromium)"
	@echo "make fuzz        ten thousand damaged files of every format, and a table of what came of them"
	@echo "make format rewrite the sources in the project's style"
	@echo "make clean  remove the environments and the demo's output"

# An environment, with plain venv and pip. $(1): its folder, $(2): what is installed beside torch.
define make_environment
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
		{ echo "Python 3.11 to 3.14 is needed, and '$(PYTHON)' is not: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(2)
	@touch $(1)/.ready
endef

$(READY): pyproject.toml constraints.txt
	$(call make_environment,$(VENV),-e '.[dev]')

demo: $(READY)
	$(BIN)/python examples/demo.py

demo-full: $(READY)
	$(BIN)/npol compare configs/demo_full.yaml --jobs 2

# Warnings are errors. NO_MKDOCS_2_WARNING silences an advertisement of the theme's authors.
docs: $(READY)
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --quiet --strict

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/basedpyright

test: lint types docs
	$(BIN)/python -m pytest --doctest-modules src --ignore=src/neural_polarization/interfaces/metatomic.py --ignore=src/neural_polarization/interfaces/torch_sim.py
	$(BIN)/python -m pytest -n 2 tests examples/polarize_your_own.py

test-adapters: $(EXTRA:%=test-adapter-%)

.PRECIOUS: .venv-%/.ready
.venv-%/.ready: pyproject.toml constraints.txt
	$(call make_environment,.venv-$*,-e '.[$*]' beartype hypothesis pytest)

# Without its package a file of tests is skipped as a whole; alone in its run it then fails with "no tests collected".
# LAMMPS finds the library of the package mpich there.
test-adapter-%: export LD_LIBRARY_PATH := $(LD_LIBRARY_PATH):$(CURDIR)/.venv-$*/lib
test-adapter-%: .venv-%/.ready
	.venv-$*/bin/python -m pytest tests/adapters/test_$*_adapter.py $(wildcard tests/originals/test_$*.py)
	.venv-$*/bin/python -m pytest tests/adapters/test_finetuning.py
	.venv-$*/bin/python -m pytest tests/test_documents.py -k "adapters.md and python"

# Compiled training and exported models against eager through the C++ compiler: several minutes, so not part of `make test`.
test-compiler: $(READY)
	NPOL_TEST_COMPILER=1 $(BIN)/python -m pytest tests/training/test_compiled.py tests/training/test_compiled_in_fields.py tests/interfaces/test_export.py

# Every network in electric fields: about ten minutes; `make test` has four of the fifteen.
test-response: $(READY)
	NPOL_TEST_RESPONSE=1 $(BIN)/python -m pytest -n 2 tests/backbones/test_response_contract.py

# A graphics processor against the CPU, every network; needs the PyTorch that fits the GPU in .venv. Two minutes.
test-gpu: $(READY)
	$(BIN)/python -m pytest -n 4 tests/gpu

# The page in a headless Chromium; `make test` has the same tests and skips them where there is no Chromium.
test-page: $(READY)
	NPOL_TEST_PAGE=1 $(BIN)/python -m pytest tests/view

# Damaged files in processes of their own, which may crash; some minutes. INPUTS=1000 for fewer.
INPUTS ?= 10000
fuzz: $(READY)
	$(BIN)/python tests/fuzz/run.py --inputs $(INPUTS)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-* runs site
