# make demo | make test | make real | make bench | make lint: each sets up .venv by itself, at the exact
# versions of requirements/lock-*.txt. `make lock` renews those; `make test-newest` and `make
# test-oldest` test the two ends of pyproject's ranges; `make dist-check` builds, installs and tries the
# sdist and the wheel; `make real` fetches a model that others trained, and edits it; `make notebooks`
# executes docs/notebooks.
PYTHON ?= python3
# The torch to install; its build, CPU or CUDA, is yours to choose. Any torch >= 2.11 will do: the
# native part uses torch's stable ABI.
TORCH ?= torch==2.13.0
# The torch of test-newest and test-oldest. Their ends are `torch` and `torch==2.11.*`, but on Linux
# the default index serves those as CUDA builds of several gigabytes, so both take the same one.
TORCH_NEWEST ?= $(TORCH)
TORCH_OLDEST ?= $(TORCH)
# Processes that test, one thread each.
JOBS ?= 2
BIN := .venv/bin
CPP := csrc/* $(wildcard tests/cuda_on_cpu/*.c* tests/cuda_on_cpu/emulator/*)

.PHONY: demo notebooks real real-short test test-sanitize test-planted torture test-newest test-oldest dist-check docs docs-ci five-minutes lock bench lint format clean
.DELETE_ON_ERROR:

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# Prints pyproject's build requirements, one per line. No build here is isolated, because an isolated
# build would download a second torch.
BUILD_REQUIRES := $(PYTHON) -c 'import tomllib; \
  print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'

# Those of the site: `docs`, and of our own what help texts import.
DOCS_REQUIRES := $(PYTHON) -c 'import tomllib; \
  p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
  own = ("click", "filelock", "psutil", "pyyaml", "safetensors"); \
  print(*p["optional-dependencies"]["docs"], *(d for d in p["dependencies"] if d.startswith(own)), sep="\n")'

.venv/use: requirements/lock-use.txt pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) "$(TORCH)" -r requirements/lock-use.txt
	LGA_FAST_NO_EXT=1 $(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	touch $@

.venv/test: .venv/use requirements/lock-test.txt
	$(BIN)/python $(PIP_INSTALL) "$(TORCH)" -r requirements/lock-test.txt
	touch $@

.venv/built: .venv/use CMakeLists.txt $(wildcard csrc/*)
	$(BIN)/python setup.py build_ext --inplace
	touch $@

demo: .venv/built
	$(BIN)/lga-fast select --selector reach --out out/demo

# Beside .venv, whose versions are locked; nothing else needs these.
NOTEBOOKS := nbclient==0.10.2 ipykernel==6.30.1
.venv-notebooks/installed: .venv/built
	$(BIN)/python $(PIP_INSTALL) --target .venv-notebooks $(NOTEBOOKS)
	touch $@

notebooks: .venv-notebooks/installed
	$(BIN)/python -m tools.real.fetch
	OMP_NUM_THREADS=1 PYTHONPATH=.venv-notebooks $(BIN)/python -m tools.notebooks

# One thread, because two wait for each other where another process has one of two cores.
real: .venv/built
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.real.run

real-short: .venv/built
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.real.run --short

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/pyright

# Without the extension: the tests of ops, of the modules that call them, and of each member.
WITHOUT := $(addprefix tests/, ops scoring/test_score.py models/test_edit_stack.py \
  selectors/test_reach.py streaming/test_edit_overlay.py cli/test_cli.py test_provenance.py \
  $(addprefix contracts/test_, commands.py editors.py metrics.py selectors.py studies.py))

test: lint .venv/built
	LGA_FAST_NO_EXT=1 OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS) $(WITHOUT)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS)

# Of the kernels, the CUDA ones included, which run on the CPU (tests/cuda_on_cpu): their tests under
# AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer; seven minutes of one core.
test-sanitize: .venv/built
	OMP_NUM_THREADS=1 $(BIN)/pytest -q tests/cuda_on_cpu/check_sanitizers.py

# Whether those tests find the bugs of tests/cuda_on_cpu/planted_bugs.py; 10 to 25 minutes of one core.
test-planted: .venv/built
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS) tests/cuda_on_cpu/check_planted_bugs.py

# The long form of tests/torture: exceptions at the lines that the package runs, inputs that are nearly
# right, kills, disks that fail; and of the ops' properties. What was tried and what failed goes to
# benchmarks/results/torture.json.
SECONDS ?= 600
SEED ?= 0
torture: .venv/built
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH=.:tests $(BIN)/python -m tests.torture.run --seconds $(SECONDS) --seed $(SEED) --jobs $(JOBS)
	OMP_NUM_THREADS=1 LGA_FAST_EXAMPLES=2000 $(BIN)/pytest -q -n $(JOBS) --hypothesis-seed=$(SEED) tests/ops/test_properties.py

# $(call test-in,ENVIRONMENT) runs the suite once, on the native kernels. Those are built in place and
# so replace .venv's, which the next `make test` builds again.
define test-in
	$(1)/bin/python setup.py build_ext --inplace --build-temp $(1)/build
	rm -f .venv/built
	OMP_NUM_THREADS=1 $(1)/bin/pytest -q -n $(JOBS)
endef

# The newest versions that pip finds today; an environment kept from last time would satisfy it as is.
test-newest:
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	$(BUILD_REQUIRES) > .venv-newest/build.txt
	.venv-newest/bin/python $(PIP_INSTALL) "$(TORCH_NEWEST)" -r .venv-newest/build.txt
	LGA_FAST_NO_EXT=1 .venv-newest/bin/python $(PIP_INSTALL) --no-build-isolation -e ".[test]"
	$(call test-in,.venv-newest)

test-oldest:
	rm -rf .venv-oldest
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python $(PIP_INSTALL) "$(TORCH_OLDEST)" -r requirements/lock-oldest.txt
	LGA_FAST_NO_EXT=1 .venv-oldest/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	$(call test-in,.venv-oldest)

dist-check: .venv/test
	$(BIN)/python tools/dist_check.py --torch "$(TORCH)"

# In an environment of its own, without torch: it reads the sources.
.venv-docs/installed: requirements/lock-docs.txt
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/python $(PIP_INSTALL) -r requirements/lock-docs.txt
	touch $@

# The site, in out/site; warnings are errors.
docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

# For .ci/run: an index that lacks mkdocs says nothing of the pages.
docs-ci:
	if $(MAKE) .venv-docs/installed; then $(MAKE) docs; \
	else echo "make docs: skipped, its packages cannot be installed"; fi

# The quick starts of docs/start in a fresh clone, and how long each step takes; -> benchmarks/results.
five-minutes: .venv/use
	$(BIN)/python -m tools.five_minutes --torch "$(TORCH)"

.venv-lock/uv:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(PIP_INSTALL) uv
	touch $@

# lock-use is a subset of lock-test, so that one .venv serves both. lock-oldest is committed as well:
# only direct dependencies are at their oldest there, and the rest must not move from day to day.
# huggingface-hub<2 is transformers 5.17's bound; without it uv picks the newest one first and then
# settles for a later transformers.
COMPILE = .venv-lock/bin/uv pip compile --quiet --python .venv-lock --upgrade -
lock: .venv-lock/uv
	$(BUILD_REQUIRES) | $(COMPILE) pyproject.toml --extra dev -o requirements/lock-test.txt
	$(BUILD_REQUIRES) | $(COMPILE) pyproject.toml --extra studies --extra gguf -c requirements/lock-test.txt \
	  -o requirements/lock-use.txt
	($(BUILD_REQUIRES); echo "huggingface-hub<2") | $(COMPILE) pyproject.toml --extra test \
	  --resolution lowest-direct -o requirements/lock-oldest.txt
	$(DOCS_REQUIRES) | $(COMPILE) -o requirements/lock-docs.txt

bench: .venv/test .venv/built
	$(BIN)/pytest -q benchmarks --benchmark-only

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

clean:
	rm -rf .venv .venv-* build dist out *.egg-info lga_fast/_C*.so lga_fast/lib
