# Every target sets up what it needs, on a Debian or Ubuntu with Python 3.11 to 3.13 and make.
#
#   make up       the whole platform on http://127.0.0.1:8000 until Ctrl-C (PORT=, AIAAS_HOME=)
#   make demo     the quickstart with nobody watching
#   make test     the tests that can run here, but for the long ones on Kubernetes
#   make test-tensorflow   the tests that need TensorFlow (1.2 GB), in an environment beside .venv
#   make test-kubernetes   the tests on a Kubernetes control plane (KUBEBUILDER_ASSETS=)
#   make servers  brings servers that make test reads from if they are there: Azure's, HDFS
#   make pictures the README's screenshots anew, as the browser tests see the pages
#   make check    format, lint, types, import layers, docs in step, locks current
#   make bench    measurements, written to benchmarks.json
#   make lock     resolve the dependencies anew (UPGRADE=1: to their newest versions)
#   make clean    remove everything that the above made, except state
#
# PYTHON= chooses the interpreter. TORCH_INDEX= names an index for PyTorch alone: its builds for
# CPUs (https://download.pytorch.org/whl/cpu) are several gigabytes smaller than PyPI's.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Byte code on all processors, where pip takes one. Templates among the packages are no Python.
COMPILE = $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || :

.PHONY: help
help:
	@sed -n '3,13s/^# *//p' Makefile

$(BIN)/python:
	@python="$$(.ci/find_python $(PYTHON))" && "$$python" .ci/make_venv.py $(VENV)

# Stamps are written when all of it is installed: an interrupted installation is repeated.
$(VENV)/installed-local: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing what the platform needs into $(VENV) (some minutes the first time) …"
	@if [ -n "$(TORCH_INDEX)" ]; then \
	  $(PIP) install --quiet --index-url "$(TORCH_INDEX)" "$$(grep '^torch==' requirements.lock)"; fi
	@$(PIP) install --quiet --no-compile --requirement requirements.lock
	@$(PIP) install --quiet --no-deps --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/installed-test: requirements-test.lock $(VENV)/installed-local
	@$(PIP) install --quiet --no-compile --requirement requirements-test.lock \
	  --constraint requirements.lock
	@$(COMPILE)
	@touch $@

# Without a stamp where it could not be built: it is tried again next time.
$(VENV)/labextension: $(wildcard labextension/*.json labextension/schema/* labextension/src/* \
    labextension/style/*) \
    $(VENV)/installed-local
	@$(BIN)/python .ci/labextension.py build $@

.PHONY: up demo test test-tensorflow test-kubernetes check bench lock docs pictures labextension
.PHONY: servers test-light test-pods
.PHONY: format clean
up: $(VENV)/installed-local $(VENV)/labextension
	@exec $(BIN)/aiaas up

demo: $(VENV)/installed-local
	@exec $(BIN)/aiaas demo --save build/quickstart.ipynb

# The tests that start no engine, two at a time; beside them those on Kubernetes without Ray, which
# mostly wait; then those with engines, alone, as engines run until a pytest ends and Ray gives up
# where it starts too slowly.
PYTEST := $(BIN)/python -m pytest
PODS := tests/kubernetes

test: $(VENV)/installed-test $(VENV)/labextension
ifdef TESTS
	@exec $(PYTEST) $(TESTS)
else
	@failed=0; \
	$(MAKE) --keep-going --jobs=2 --output-sync=target test-light test-pods || failed=1; \
	$(PYTEST) -m "(engines or platform) and not long" || failed=1; \
	exit $$failed
endif

test-light: $(VENV)/installed-test
	@exec $(PYTEST) --ignore=$(PODS) --numprocesses 2 --dist loadfile \
	  -m "not engines and not platform"

test-pods: $(VENV)/installed-test
	@exec $(PYTEST) $(PODS) -m "not engines and not long"

servers: $(VENV)/installed-local
	@exec $(BIN)/python .ci/servers.py

test-kubernetes: $(VENV)/installed-test
	@exec $(PYTEST) tests/kubernetes

pictures: $(VENV)/installed-test $(VENV)/labextension
	@AIAAS_PICTURES=docs/images exec $(BIN)/python -m pytest \
	  tests/browser/test_first_time.py tests/browser/test_panels.py

# Beside .venv, which it sees and does not change: Keras takes TensorFlow for its own where that is.
TENSORFLOW := build/tensorflow
SITE := import sysconfig; print(sysconfig.get_path("purelib"))

$(TENSORFLOW)/installed: requirements.lock requirements-test.lock $(VENV)/installed-test
	@$(BIN)/python -m venv $(TENSORFLOW)
	@echo "import site; site.addsitedir('$$($(BIN)/python -c '$(SITE)')')" \
	  > "$$($(TENSORFLOW)/bin/python -c '$(SITE)')/beside.pth"
	@$(TENSORFLOW)/bin/python -m pip --disable-pip-version-check install --quiet --no-compile \
	  --constraint requirements.lock --constraint requirements-test.lock tensorflow-cpu==2.20.0
	@touch $@

.PHONY: tensorflow
tensorflow: $(TENSORFLOW)/installed

test-tensorflow: tensorflow
	@exec $(TENSORFLOW)/bin/python -m pytest -k tensorflow tests/unit \
	  tests/engines/test_frameworks.py

# Each by itself, for `make --jobs=2 check`.
CHECKS := check-format check-lint check-types check-imports check-locks check-images check-docs \
  check-labextension
.PHONY: $(CHECKS)
check: $(CHECKS)
$(CHECKS): $(VENV)/installed-test
check-format:
	$(BIN)/ruff format --check .
check-lint:
	$(BIN)/ruff check .
check-types:
	$(BIN)/mypy
check-imports:
	$(BIN)/lint-imports
check-locks:
	$(BIN)/python .ci/locks.py check
check-images:
	$(BIN)/python .ci/images.py check
check-docs:
	$(BIN)/python .ci/docs.py --check
check-labextension:
	$(BIN)/python .ci/labextension.py check

bench: $(VENV)/installed-test $(VENV)/labextension
	$(BIN)/python tests/benchmarks/run.py benchmarks.json

lock: $(VENV)/installed-test
	$(BIN)/python .ci/locks.py write $(if $(UPGRADE),--upgrade)
	$(BIN)/python .ci/images.py write

docs: $(VENV)/installed-test
	$(BIN)/python .ci/docs.py

labextension: $(VENV)/labextension

format: $(VENV)/installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist benchmarks.json .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	rm -rf labextension/built labextension/lib labextension/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
