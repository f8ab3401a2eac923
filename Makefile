# make demo    draws 2,000 bins, trains a small net that counts them, evaluates it and writes a report
# make test    the tests of the parts, in three minutes
# make test-integration   whole commands, launches, rehearsals and notebooks, each run as a user would: ten minutes more
# make test-all           both, and those that take minutes each
# make lint    style (ruff), floors (import-linter) and types (pyright, with the Node.js that is in .venv)
# make lock    resolves pyproject.toml again into the requirements*.lock
# Each sets up .venv first, which takes no time once it stands: the demo with requirements.lock, which has what every
# command needs, the others (and `make setup`) with requirements.dev.lock, which has the tests and tools beside it.

PYTHON ?= python3
BIN := .venv/bin
ACTIVATE := PATH="$(CURDIR)/$(BIN):$$PATH"

# The demo is content with what is there for the tests.
FOR_THE_DEMO := .venv/$(if $(wildcard .venv/.synced),.synced,.commands)

.PHONY: setup demo test test-integration test-all lint lock
.DEFAULT_GOAL := setup

setup: .venv/.synced

.venv/.synced: requirements.dev.lock pyproject.toml
.venv/.commands: requirements.lock pyproject.toml
.venv/.synced .venv/.commands:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11, 4) <= sys.version_info < (3, 14))' || \
		{ echo "Stocktake needs Python 3.11 (from 3.11.4 on), 3.12 or 3.13. If you have one beside this: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
		{ echo "This Python has no venv module. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "Installing what $< lists into .venv: 6 GB, most of it torch with its CUDA libraries ..."
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes $<
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(FOR_THE_DEMO)
	$(ACTIVATE) RUN_DIR=runs/demo/latest python train.py experiment=demo
	$(ACTIVATE) python scripts/evaluate.py checkpoint=runs/demo/latest/checkpoints/best.ckpt linear_baseline=true

# Tests start some hundred Pythons: where PYTHONDONTWRITEBYTECODE is set, as in many containers, each would compile anew.
test: setup
	PYTHONDONTWRITEBYTECODE= $(ACTIVATE) python -m pytest -m "not integration and not slow and not gpu" $(ARGS)

test-integration: setup
	PYTHONDONTWRITEBYTECODE= $(ACTIVATE) python -m pytest -m "integration and not slow and not gpu" $(ARGS)

test-all: setup
	PYTHONDONTWRITEBYTECODE= $(ACTIVATE) python -m pytest -m "not gpu" $(ARGS)

lint: setup
	$(ACTIVATE) ruff check .
	$(ACTIVATE) ruff format --check .
	$(ACTIVATE) lint-imports
	$(ACTIVATE) pyright

# Without torch and what comes with it: AWS's training image brings its own.
FROM_THE_IMAGE := torch torchvision jinja2 markupsafe mpmath networkx pillow setuptools sympy
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url

lock: setup
	$(LOCK) --all-extras --upgrade pyproject.toml --output-file requirements.dev.lock
	$(LOCK) $(addprefix --extra ,train export serve report rehearsal search setup) --constraint requirements.dev.lock \
		pyproject.toml --output-file requirements.lock
	printf 'torch; sys_platform == "none"\ntorchvision; sys_platform == "none"\n' | \
		$(LOCK) --extra train --extra export $(addprefix --no-emit-package ,$(FROM_THE_IMAGE)) \
		--override - pyproject.toml --output-file requirements.container.lock
	$(LOCK) --extra serve --constraint requirements.dev.lock pyproject.toml --output-file requirements.serve.lock
	$(LOCK) --extra report --constraint requirements.dev.lock pyproject.toml --output-file requirements.monitor.lock
	$(LOCK) --group bench --constraint requirements.dev.lock --upgrade --output-file requirements.bench.lock
