# One command each; everything needs only Python 3.11-3.13, git and make.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
RUN := env PYTHONDONTWRITEBYTECODE= $(BIN)/python

.PHONY: help env demo up down test test-faults bench lint docs lock check clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

env: .venv/.complete ## the pinned environment, packages installed in place

.venv/.complete: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tieout needs Python 3.11, 3.12 or 3.13; none was found" >&2; exit 1; }
	@echo "building the environment in .venv with $(PYTHON)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -E '^uv==' requirements.txt | cut -d' ' -f1)"
	@env PYTHONDONTWRITEBYTECODE= $(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.txt
	@$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -e .
	@touch $@

demo: env ## a company in a box: three nights and a month end in real Airflow, then all again
	@$(RUN) -m tieout_sandbox.demo

up: env ## the same company with the Airflow UI on loopback, to click around
	@$(RUN) -m tieout_sandbox.demo up

down: env ## stop what `make up` started
	@$(RUN) -m tieout_sandbox.demo down

test: env ## the whole suite, servers included
	@env PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 3

test-faults: env ## posting alone: every ERP adapter killed and disturbed at every step, and lied to
	@env PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 3 tests/faults/posting

ROWS ?= 100000
bench: env ## what reconciling costs beside one read of its input and beside peers (ROWS=1e7); two nights too with SCALE=1
	@$(RUN) -m tieout_sandbox.bench --rows $(ROWS) $(if $(SCALE),--scale $(SCALE))

lint: env ## ruff, mypy (strict on the library), the house's layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: env ## the table dictionary and the configuration's JSON Schemas, generated
	@$(BIN)/python -m tieout.schema.dictionary > docs/tables.md
	@$(BIN)/python -m tieout.reconcile.definition_file > include/config/reconciliations/definition.schema.json
	@$(BIN)/python -m tieout.ledger.documentation table > docs/posting-rules.md
	@$(BIN)/python -m tieout.ledger.documentation schema > include/config/posting_rules.schema.json
	@$(BIN)/python -m tieout.erp.schemas include/config/erp

lock: ## compile requirements.in and requirements-spark.in to fully pinned lists
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --output-file requirements.txt requirements.in
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --output-file requirements-spark.txt requirements-spark.in

check: lint test ## everything a change must pass

clean: ## what can be made again
	@rm -rf .venv .run var build
