# Two commands for a newcomer: `make demo` and `make test`. Both set up by themselves, in .venv.
# Needs git, make and Python 3.11 or later (another one than python3: `make test PYTHON=python3.12`).

PYTHON ?= python3
VENV ?= .venv
REPO ?=
JOBS ?= 3
PYTEST_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PROVIDERS := local local_docker ssh e2b
PACKAGES := -e core $(PROVIDERS:%=-e providers/%)
TOOLS := editables hatchling hypothesis mypy pytest pytest-asyncio pytest-timeout pytest-xdist ruff
SOURCES := core/src $(PROVIDERS:%=providers/%/src) plugins/jsonl/src plugins/policy/src plugins/steps/src

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make .venv with everything in it

$(STAMP): constraints.txt core/pyproject.toml $(PROVIDERS:%=providers/%/pyproject.toml) Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "GitMachine needs Python 3.11 or later; '$(PYTHON)' is not that: say 'make PYTHON=python3.11 ...'" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "'$(PYTHON)' has no venv module: install it (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "setting up $(VENV) ..." >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt $(TOOLS)
	@$(PIP) install -c constraints.txt --no-build-isolation $(PACKAGES)
	@touch $@

demo: $(STAMP) ## run a command on a real repository in a sandbox and show the branch it leaves (REPO=path for your own)
	@$(BIN)/python scripts/demo.py $(if $(REPO),--repository '$(REPO)')

test: $(STAMP) ## run all tests (PYTEST_ARGS='-k name' for some)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

check: $(STAMP) ## look at formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(SOURCES)

format: $(STAMP) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## measure what this machine allows; a table, and JSON in benchmarks/results
	@$(BIN)/python -m benchmarks

clean: ## remove the environment and everything else that was made here
	rm -rf $(VENV) .venv-peers demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
