# `make` alone lists the commands. Each creates .venv with pip on first use.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
PORT ?= 8000
MODEL ?= models/demo
SERVERS ?= 2
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: help up test programs audit check fix unit integration e2e chaos interop fuzz bench docs clean

help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# torch goes first and alone, so that a CPU machine keeps the CPU build it was given;
# the lock of the rest names neither torch nor any CUDA package.
$(INSTALLED): requirements/torch.txt requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "swarmgate needs Python 3.11 or newer")'
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing torch (1 of 3)"; $(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/torch.txt
	@echo "installing the locked dependencies (2 of 3)"; $(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/lock.txt
	@echo "installing swarmgate (3 of 3)"; $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

up: $(INSTALLED) ## gateway, private swarm and chat page on 127.0.0.1 (PORT=8000 MODEL=models/demo SERVERS=2)
	@exec $(BIN)/swarmgate up --port $(PORT) --model $(MODEL) --servers $(SERVERS)

test: programs ## every tier: unit, integration, e2e, interop (JOBS=2 files at once)
	$(BIN)/python -m pytest tests -n $(JOBS)

programs: $(INSTALLED) ## what tests drive: Redis, Chromium, the Petals release where it is at hand
	@scripts/install-test-programs
	@scripts/install-counterpart

audit: $(INSTALLED) ## known vulnerabilities of the locked dependencies
	@$(BIN)/python -m scripts.audit_dependencies

check: $(INSTALLED) ## format, lint, types, import contracts, docs drift
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m scripts.generate_docs --check

fix: $(INSTALLED) ## format and apply safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

unit: $(INSTALLED) ## rules of single modules, seconds
	$(BIN)/python -m pytest tests/unit

integration: $(INSTALLED) ## packages together, in one process
	@scripts/install-test-programs
	$(BIN)/python -m pytest tests/integration

e2e: $(INSTALLED) ## the product: real processes, Redis and Chromium
	@scripts/install-test-programs
	$(BIN)/python -m pytest tests/e2e

chaos: $(INSTALLED) ## servers killed, links cut, disks full: what a reader notices
	@scripts/install-test-programs
	$(BIN)/python -m pytest tests/chaos -n $(JOBS)

interop: $(INSTALLED) ## strangers' clients and formats
	@scripts/install-counterpart
	$(BIN)/python -m pytest tests/interop

fuzz: $(INSTALLED) ## nonsense on every surface, the long form
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=fuzz

bench: $(INSTALLED) ## every benchmark, JSON on stdout
	@$(BIN)/python -W ignore -m benchmarks.single_session
	@$(BIN)/python -W ignore -m benchmarks.library
	@$(BIN)/python -W ignore -m benchmarks.many_sessions
	@$(BIN)/python -W ignore -m benchmarks.engine_overhead
	@$(BIN)/python -W ignore -m benchmarks.products
	@$(BIN)/python -W ignore -m benchmarks.client_overhead
	@scripts/install-neighbour-gateway
	@$(BIN)/python -W ignore -m benchmarks.gateway_load
	@for what in kills history goodput rolling; do $(BIN)/python -W ignore -m benchmarks.churn $$what || exit 1; done
	@$(BIN)/python -W ignore -m benchmarks.links
	@$(BIN)/python -W ignore -m benchmarks.sampler
	@$(BIN)/python -W ignore -m benchmarks.limiter

docs: $(INSTALLED) ## write the generated pages and .env.example anew
	$(BIN)/python -m scripts.generate_docs

clean: ## remove the environment and caches
	rm -rf $(VENV) .petals-venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
