# Everything runs in .venv, which is made on first use and re-used afterwards. Needs python3 (3.10 or newer), pip and make.
PYTHON ?= python3
DATA ?= ../shared
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test pytest lint types format test-slow cards docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## .venv with the package and its tested versions

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: setup  ## distil the embedded digits and score two architectures, beside both controls
	$(BIN)/dd-bench run --dataset digits --codec dct --algo dm --evaluator convnet,convnext_atto --protocol demo.v1

test: lint types pytest  ## lint, types and the tests that need no network, no accelerator and no patience

pytest: setup
	$(BIN)/python -m pytest

lint: setup  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy, strict
	$(BIN)/mypy

format: setup  ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-slow: setup  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

cards: setup  ## the codec cards in registry/ that are missing; real data and weights lie in DATA
	$(BIN)/python benchmarks/codec_cards.py $(DATA)/data $(DATA)/weights

docs: setup  ## the contract reference, from the docstrings
	$(BIN)/python -m latentdd_plugin.testing > docs/contracts.md

clean:  ## remove caches and build outputs; .venv and runs stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
