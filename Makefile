# The two commands of the README are `make quickstart` and `make test`. Both work on a machine that has only Python 3.11
# (or newer) and make: they create .venv, install the versions pinned in constraints.txt, and run.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# Processes that the tests are spread over; each has one thread, as more would only wait for each other.
WORKERS ?= 2
PIP_ARGS ?=
APT := -qq -o Acquire::Retries=3

# vLLM has its own environment, as its builds for CPUs hold other packages back.
VENV_VLLM ?= .venv-vllm
BIN_VLLM := $(VENV_VLLM)/bin
CHECK_PYTHON := -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'

.PHONY: help install quickstart test test-slow test-vllm test-browser browser docs lint format clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed  ## Create .venv and install the package with everything that development needs

# torch first, and by its exact version: left to another package's range, pip would take the newest build with CUDA.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(CHECK_PYTHON)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: install  ## Train a tiny long-context reader and write quickstart/report.html (ARGS="--seed 1" and so on)
	$(BIN)/qwenlong-trl quickstart $(ARGS)

test: install  ## Run the tests (ARGS="-k resume", WORKERS=4 and so on)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

test-slow: install  ## Run the tests that take long: kills, full disks, trainings on two processes, a critic that learns
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile -m slow --timeout 1800 $(ARGS)

# Builds for CPUs of what vLLM needs for images and sound are not to be had with these versions, and others break
# transformers; text does without them.
$(VENV_VLLM)/.installed: pyproject.toml constraints-vllm.txt
	test -x $(BIN_VLLM)/python || $(PYTHON) -m venv $(VENV_VLLM)
	$(BIN_VLLM)/python $(CHECK_PYTHON)
	$(BIN_VLLM)/python -m pip install --quiet $(PIP_ARGS) "$$(grep '^torch==' constraints-vllm.txt)"
	$(BIN_VLLM)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints-vllm.txt --editable '.[test-vllm]'
	$(BIN_VLLM)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

test-vllm: $(VENV_VLLM)/.installed  ## Run the tests that need vLLM, in .venv-vllm (ARGS as above)
	OMP_NUM_THREADS=1 $(BIN_VLLM)/python -m pytest -m vllm --timeout 600 tests/engines tests/contract $(ARGS)

# Playwright's own browsers are a download from elsewhere; a distribution's is as good.
browser:  ## Install Chromium where there is none, for the tests of the Spaces (Debian and its kin, as root)
	command -v chromium || command -v chromium-browser || command -v google-chrome || \
		{ apt-get $(APT) update && apt-get $(APT) --yes --no-install-recommends install chromium; }

test-browser: install browser  ## Run the tests that drive the Spaces in Chromium (ARGS as above)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser --timeout 900 tests/spaces $(ARGS)

docs: install  ## Build the documentation in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

lint: install  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install  ## Fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and caches
	rm -rf $(VENV) $(VENV_VLLM) .pytest_cache .ruff_cache .hypothesis build docs/_build *.egg-info quickstart
