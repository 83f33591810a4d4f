# Needs Python 3.11+, make and a C library. Everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help run lint fast test soak bench clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMP)  ## play the main job with the shipped defaults and write its report
	$(BIN)/fedsim run

lint: $(STAMP)  ## check style, format and types; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: $(STAMP)  ## the quick tests: about a minute on two cores
	$(BIN)/pytest -q -m 'not slow' -n auto

test: lint  ## lint, then every test: what has to pass before a change goes in
	$(BIN)/pytest -n auto

soak: $(STAMP)  ## 5,000 broken configurations, 5,000 runs played twice: about an hour
	FEDSIM_FUZZ_VALUES=5000 $(BIN)/pytest -q --timeout 0 tests/config/test_fuzz.py
	FEDSIM_ALONE_SETUPS=5000 $(BIN)/pytest -q --timeout 0 -n auto tests/test_alone.py

bench: $(STAMP)  ## measure speed and memory, each beside a baseline
	$(BIN)/fedsim bench

clean:  ## remove .venv, caches and the folders of runs
	rm -rf $(VENV) runs multirun .pytest_cache .mypy_cache .ruff_cache

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
