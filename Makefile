# make demo | make test | make bench | make lint: each sets up .venv by itself when it is missing.
PYTHON ?= python3
# The torch to install. Any torch >= 2.11 will do: the native part uses torch's stable ABI.
TORCH ?= torch==2.13.0
# Processes that test, one thread each.
JOBS ?= 2
BIN := .venv/bin

.PHONY: demo test bench lint format clean
.DELETE_ON_ERROR:

.venv/deps: pyproject.toml Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)" \
	  "setuptools>=77" "pybind11>=2.13" "cmake>=3.24" ninja packaging
	LGA_FAST_NO_EXT=1 $(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation -e ".[dev]"
	touch $@

.venv/built: .venv/deps setup.py CMakeLists.txt $(wildcard csrc/*)
	$(BIN)/python setup.py build_ext --inplace
	touch $@

demo: .venv/built
	$(BIN)/lga-fast select --out out/demo

lint: .venv/deps
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror csrc/*
	$(BIN)/pyright

test: lint .venv/built
	LGA_FAST_NO_EXT=1 OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS)

bench: .venv/built
	$(BIN)/pytest -q benchmarks --benchmark-only

format: .venv/deps
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i csrc/*

clean:
	rm -rf .venv build out *.egg-info lga_fast/_C*.so lga_fast/lib
