# `make help` lists the targets. PYTHON names the interpreter, ARGS is passed on to serve, pytest and chaos. TESTERS is
# the number of processes that test, which wait now and then: three keep two cores busy. Each takes up to 3 GB.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
ARGS ?=
TESTERS ?= 3
RUNS ?= 10
SEED ?= 1
LOCK := requirements/lock.txt
BIN := .venv/bin
# Where it is set, each of our many processes would compile PyTorch anew.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest --numprocesses $(TESTERS) --dist worksteal

.PHONY: help env install lock demo serve plugin test soak chaos container-test fmt clean
.DEFAULT_GOAL := help

help: ## Show this list.
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

env: ## Bring .venv up to the lock; does nothing when it is.
	@cmp -s $(LOCK) .venv/installed.txt || $(MAKE) --no-print-directory install

install:
	@requirements/install.sh $(PYTHON) .venv $(LOCK)

lock: env ## Write the lock anew after a change of requirements/*.txt.
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" requirements/dev.txt -o $(LOCK)

demo: env ## Embed a synthetic library and show the result; DEMO_EXIT=1 stops there.
	@NAVEMBED_HOME=var/demo $(BIN)/python manage.py demo $(if $(DEMO_EXIT),--exit)

serve: env ## Serve your own library; see docs/configuration.md.
	@$(BIN)/python manage.py serve $(ARGS)

plugin: env ## Build the plugins for Navidrome, build/*.ndp; see docs/navidrome.md.
	@$(BIN)/python plugin/build.py

test: env ## Style, types and all tests, those of the database also on PostgreSQL.
	@$(BIN)/python -m navembed_site.installation
	@$(BIN)/python -m tests.console.browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	@# mypy keeps one core busy for most of a minute, so the shorter run of tests begins beside it.
	@home=$$(mktemp -d); trap 'kill $${types-} 2>/dev/null || :; rm -rf "$$home"' EXIT; set -x; \
	NAVEMBED_HOME="$$home" $(BIN)/mypy & types=$$!; \
	$(BIN)/python -m tests.postgres $(PYTEST) -m "database and not soak" $(ARGS); wait $$types
	$(PYTEST) $(ARGS)

soak: env ## Tests that take longer than a few minutes.
	$(BIN)/python -m pytest -m soak $(ARGS)

chaos: env ## Jobs under faults: RUNS=100 SEED=1; figures also in var/chaos.json.
	@mkdir -p var
	$(BIN)/python -m tests.chaos --runs $(RUNS) --seed $(SEED) --json var/chaos.json $(ARGS)

container-test: env ## Build the image and run it; as root, with podman, runc and debootstrap.
	$(BIN)/python -m pytest -m container $(ARGS)

fmt: env ## Format the code and mend what can be mended.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment and all caches; var/, the instance's data, stays.
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
