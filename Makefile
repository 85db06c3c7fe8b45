# Everything runs from .venv, which demo/install.sh makes from uv.lock.
.DEFAULT_GOAL := help
.PHONY: help install demo up down clean status test test-all bench lint format schema lock-check

RUN := .venv/bin/python -m
# A worker for each core; which tests stay together is said in tests/conftest.py.
PYTEST := $(RUN) pytest -n auto
INSTALLED := .venv/.installed

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | awk -F '|' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Create .venv from the lock file

$(INSTALLED): pyproject.toml uv.lock demo/install.sh
	@demo/install.sh
	@touch $@

demo: $(INSTALLED) ## Start PostgreSQL and Airflow, run two changes, prove what came out
	@$(RUN) demo demo

up: $(INSTALLED) ## Start the demo's PostgreSQL and Airflow and leave them running
	@$(RUN) demo up

down: $(INSTALLED) ## Stop what make up started
	@$(RUN) demo down

clean: $(INSTALLED) ## Stop the demo and delete its data
	@$(RUN) demo clean

status: $(INSTALLED) ## Say what of the demo is running
	@$(RUN) demo status

test: $(INSTALLED) ## Run all tests but the slow ones
	@$(PYTEST) -m "not slow"

test-all: $(INSTALLED) ## Run all tests
	@$(PYTEST)

bench: $(INSTALLED) ## Measure everything side by side with what people use today (about half an hour)
	@$(RUN) benchmarks

lint: $(INSTALLED) ## Check style, SQL and types
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) sqlfluff lint --disable-progress-bar include/sql demo/sql
	@$(RUN) mypy

format: $(INSTALLED) ## Format the code
	@$(RUN) ruff check --fix
	@$(RUN) ruff format

schema: $(INSTALLED) ## Write the JSON Schema of change files anew
	@$(RUN) schema_change.core.changes.schema

lock-check: ## Check that uv.lock fits pyproject.toml
	@demo/install.sh --check-lock
