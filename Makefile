# The two commands of the README are `make quickstart` and `make test`. Both work on a machine that has only Python 3.11
# (or newer) and make: they create .venv, install the versions pinned in constraints.txt, and run.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# Processes that the tests are spread over; each has one thread, as more would only wait for each other.
WORKERS ?= 2
PIP_ARGS ?=

.PHONY: help install quickstart test lint format clean

help:  ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed  ## Create .venv and install the package with everything that development needs

# torch first, and by its exact version: left to another package's range, pip would take the newest build with CUDA.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: install  ## Train a tiny long-context reader and write quickstart/report.html (ARGS="--seed 1" and so on)
	$(BIN)/qwenlong-trl quickstart $(ARGS)

test: install  ## Run the tests (ARGS="-k resume", WORKERS=4 and so on)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

lint: install  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install  ## Fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build *.egg-info quickstart
