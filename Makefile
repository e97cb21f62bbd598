# StudyAI's streaming chat. `make` alone shows what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TIMED := tests/engine tests/gateway tests/faults
.DEFAULT_GOAL := help
.PHONY: help run run-cluster soak bench fuzz test test-mobile setup system proto check-protos web lint format types pytest lock clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

run: $(VENV)/run.stamp ## Set up and run the service; without an API key on the embedded local model
	@$(BIN)/python deploy/up.py

run-cluster: $(VENV)/run.stamp ## Run two engines, two gateways and a Redis that they share
	@$(BIN)/python deploy/up.py --engines 2 --gateways 2 --redis

test: setup lint types check-protos pytest ## Set up and pass every check

test-mobile: setup ## Compile the clients for Kotlin and Swift, and run them; fetches their compilers once (3 GB)
	scripts/mobile/toolchains.sh
	$(BIN)/python -m pytest tests/mobile --timeout 600

setup: ## Set up everything that the checks need
	@$(MAKE) --no-print-directory --jobs 2 $(VENV)/dev.stamp system

system:
	@scripts/system_packages.sh

lint: $(VENV)/dev.stamp ## Style, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

format: $(VENV)/dev.stamp ## Put code and protos into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

types: $(VENV)/dev.stamp ## Check the types
	$(BIN)/mypy

pytest: $(VENV)/dev.stamp ## Run the tests alone; ARGS="-k name" chooses
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	@# What is held to milliseconds runs apart from what needs a whole core, or waits for processes and browsers.
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(TIMED)
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile $(TIMED:%=--ignore=%) --ignore=tests/mobile
endif

soak: setup ## Run tests/soak with large numbers: streams, cuts, disconnects, restarts, overload (15 minutes)
	SOAK_CUTS=1000 SOAK_ANSWERS=2000 SOAK_DISCONNECTS=5000 SOAK_STREAMS=100000 SOAK_RESTARTS=20 \
	SOAK_RESTART_STREAMS=200 SOAK_SLOTS=20 SOAK_OVERLOAD_SECONDS=5 $(BIN)/python -m pytest tests/soak -s --timeout 3600

bench: $(VENV)/bench.stamp .bench/litellm/bin/litellm ## Measure this service beside its peers and write docs/performance.md (20 minutes); ARGS="--help"
	@command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || echo "Without nginx (apt-get install nginx-light) there is nothing to compare with." >&2
	$(BIN)/python -m bench $(or $(ARGS),--write)

FUZZ_SECONDS ?= 60
fuzz: $(VENV)/dev.stamp ## Fuzz what reads foreign bytes, FUZZ_SECONDS for each target, with atheris
	@$(PIP) atheris==3.0.0
	$(BIN)/python -m tests.fuzz $(FUZZ_SECONDS)

proto: $(VENV)/dev.stamp ## Write generated/ anew from protos/
	scripts/generate_protos.sh generated

check-protos: $(VENV)/dev.stamp ## Fail on drift, lint, format and breaking changes of the contract
	scripts/check_protos.sh

web: ## Write the web client's libraries anew into sse_gateway/web/vendor, from npm
	scripts/web/vendor.sh

lock: $(VENV)/run.stamp ## Resolve the dependencies anew into requirements/
	scripts/lock.sh

$(VENV)/bench.stamp: requirements/bench.lock $(VENV)/run.stamp
	@echo "Installing what the benchmark needs …"
	@$(PIP) --require-hashes -r requirements/bench.lock
	@touch $@

.bench/litellm/bin/litellm: bench/litellm.txt
	@echo "Installing LiteLLM into an environment of its own (two minutes) …"
	@$(PYTHON) -m venv .bench/litellm
	@.bench/litellm/bin/python -m pip install --quiet --disable-pip-version-check -r bench/litellm.txt
	@touch $@

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .bench .mobile .mypy_cache .ruff_cache .pytest_cache .hypothesis scripts/web/node_modules tests/node/node_modules examples/node/node_modules

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements/run.lock pyproject.toml clients/python/pyproject.toml | $(VENV)/bin/python
	@echo "Installing what the service needs into $(VENV) (once, about a minute) …"
	@$(PIP) --require-hashes -r requirements/run.lock
	@$(PIP) --no-deps --no-build-isolation -e . -e clients/python
	@touch $@

$(VENV)/dev.stamp: requirements/dev.lock $(VENV)/run.stamp
	@echo "Installing what the checks need …"
	@$(PIP) --require-hashes -r requirements/dev.lock
	@touch $@
