PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: check test demo clean

check: ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy core/src providers/local/src
