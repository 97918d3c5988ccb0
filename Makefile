# `make demo` and `make test` need Python 3.10 to 3.13 and nothing else: both set themselves up in a virtual environment.
# Choose the Python with `make test PYTHON=python3.12`. Without a C compiler the optional extension is left out and
# the simulator is slower.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() or 1)')

BIN     := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
NATIVE  := $(wildcard tvm_tinyml/device/native/*.[ch])

.PHONY: demo test lint clean tune-shipped-log

demo: $(VENV)/.demo
	$(BIN)/tvm-tinyml demo

test: lint
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/mypy

# May be stopped at any time, and goes on where it was.
tune-shipped-log: $(VENV)/.dev
	$(BIN)/python -m benchmarks.shipped_log

clean:
	rm -rf $(VENV) build demo-out dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	rm -f tvm_tinyml/device/_machine*.so

# Named after the Python it was made with, so that another PYTHON makes a new environment.
$(VENV)/.python-$(VERSION):
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

# One stamp per extra: installed again only when what is installed changes.
$(VENV)/.%: $(VENV)/.python-$(VERSION) pyproject.toml setup.py $(NATIVE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@
