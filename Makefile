# `make help` lists the targets. PYTHON names the interpreter, ARGS is passed on to serve, pytest and chaos. TESTERS is
# the number of processes that test: each runs an embedder of its own, and takes up to 3 GB.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
ARGS ?=
TESTERS ?= 2
RUNS ?= 10
SEED ?= 1
LOCK := requirements/lock.txt
BIN := .venv/bin
# Where it is set, each of our many processes would compile PyTorch anew.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest --numprocesses $(TESTERS) --dist worksteal

.PHONY: help env install lock demo serve test soak chaos fmt clean
.DEFAULT_GOAL := help

help: ## Show this list.
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

env: ## Bring .venv up to the lock; does nothing when it is.
	@cmp -s $(LOCK) .venv/installed.txt || $(MAKE) --no-print-directory install

# uv does not read pip's configuration, so mirrors named there are handed over. Hashes hold whoever serves a file.
install:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and \
		"navembed needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	@awk '/^uv==/ { found = 1; print; next } /^[^ ]/ { found = 0 } found' $(LOCK) > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.txt
	@option() { $(BIN)/python -m pip config get "global.$$1" 2>/dev/null || \
		$(BIN)/python -m pip config get ":env:.$$1" 2>/dev/null || true; }; \
	arguments=(--require-hashes --index-strategy unsafe-best-match); \
	for url in $$(option index-url); do arguments+=(--default-index "$$url"); done; \
	for url in $$(option extra-index-url); do arguments+=(--index "$$url"); done; \
	for place in $$(option find-links); do arguments+=(--find-links "$$place"); done; \
	UV_HTTP_TIMEOUT=$${UV_HTTP_TIMEOUT:-300} VIRTUAL_ENV="$$PWD/.venv" \
		$(BIN)/uv pip sync "$${arguments[@]}" $(LOCK)
	@cp $(LOCK) .venv/installed.txt

lock: env ## Write the lock anew after a change of requirements/*.txt.
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" requirements/dev.txt -o $(LOCK)

demo: env ## Embed a synthetic library and show the result; DEMO_EXIT=1 stops there.
	@NAVEMBED_HOME=var/demo $(BIN)/python manage.py demo $(if $(DEMO_EXIT),--exit)

serve: env ## Serve your own library; see docs/configuration.md.
	@$(BIN)/python manage.py serve $(ARGS)

test: env ## Style, types and all tests, those of the database also on PostgreSQL.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT; set -x; NAVEMBED_HOME="$$home" $(BIN)/mypy
	$(PYTEST) $(ARGS)
	$(BIN)/python -m tests.postgres $(PYTEST) -m "database and not soak" $(ARGS)

soak: env ## Tests that take longer than a few minutes.
	$(BIN)/python -m pytest -m soak $(ARGS)

chaos: env ## Jobs under faults: RUNS=100 SEED=1; figures also in var/chaos.json.
	@mkdir -p var
	$(BIN)/python -m tests.chaos --runs $(RUNS) --seed $(SEED) --json var/chaos.json $(ARGS)

fmt: env ## Format the code and mend what can be mended.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment and all caches; var/, the instance's data, stays.
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
