# Everything a developer runs. `make` alone lists the targets.
# Needs Python >= 3.11 with venv, make, and a package registry; PYTHON=... chooses the interpreter.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check
WORKERS ?= auto
ARGS ?=

# A stamp is newer than pyproject.toml when the environment holds what pyproject.toml names.
MADE := $(VENV)/.made
CLI_READY := $(VENV)/.ready-cli
DEV_READY := $(VENV)/.ready-dev

# An environment whose interpreter is gone, or that was moved here from another folder, is built anew.
$(shell [ -x $(PY) ] && [ "$$(cat $(MADE) 2>/dev/null)" = "$(CURDIR)" ] || rm -f $(MADE) $(CLI_READY) $(DEV_READY))

CODE := $(wildcard flux_core adapters tests examples benchmarks)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo services test check lint types imports fix bench infra soak clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(CLI_READY) ## set up and run the order-fulfilment demo
	$(PY) -m examples.order_fulfilment.demo $(ARGS)

services: $(DEV_READY) ## find or install what the tests need beside Python packages
	@$(PY) -m tests.services.install

test: services ## set up and run the tests (ARGS="-k name" narrows; WORKERS=0 runs them in one process)
	$(PY) -m pytest -q -n $(WORKERS) --maxprocesses 8 --dist worksteal $(ARGS)

check: lint types imports test ## what CI runs: lint, types, import rules, tests

lint: $(DEV_READY) ## ruff: rules and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(DEV_READY) ## mypy, strict
	$(PY) -m mypy $(CODE)

imports: $(DEV_READY) ## import rules of docs/architecture.md
	PYTHONPATH=.:adapters $(VENV)/bin/lint-imports

fix: $(DEV_READY) ## repair what ruff can repair, and format
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

bench: services ## measure every speed claim
	$(PY) -m benchmarks.run $(ARGS)

infra: services ## scan, package and apply the infrastructure, to a server that plays AWS (minutes)
	@$(PY) -m tests.services.tools
	$(PY) -m pytest -q -m infra -o faulthandler_timeout=0 tests/infra $(ARGS)

soak: services ## the long simulations and the long forms of the store tests
	$(PY) -m pytest -m soak -n $(WORKERS) --maxprocesses 8 -o faulthandler_timeout=0 $(ARGS)

clean: ## remove .venv, caches and build output
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up ---------------------------------------------------------------------------------------------

$(DEV_READY): pyproject.toml | $(MADE)
	@echo "setting up $(VENV) (development tools)"
	@$(PIP_INSTALL) --editable '.[cli,dev]'
	@touch $(CLI_READY) $@

$(CLI_READY): pyproject.toml | $(MADE)
	@echo "setting up $(VENV)"
	@$(PIP_INSTALL) --editable '.[cli]'
	@touch $@

$(MADE):
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "Flux needs Python 3.11 or newer, and '$(PYTHON)' is not on PATH." >&2; \
	  echo "Install it (Debian, Ubuntu: apt-get install python3 python3-venv) or name one: make PYTHON=/path/to/python3" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Flux needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1)." >&2; \
	  echo "Install a newer one (Debian, Ubuntu: apt-get install python3.11 python3.11-venv) and name it: make PYTHON=python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  v=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "'$(PYTHON)' cannot build a virtual environment: its venv or ensurepip module is missing." >&2; \
	  echo "Install it (Debian, Ubuntu: apt-get install python$$v-venv) and run make again." >&2; \
	  exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@printf '%s' "$(CURDIR)" >$@
