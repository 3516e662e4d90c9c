# Everything runs in .venv, which is made on first use and reused afterwards. Needs python3 (3.10 or newer), pip and make.
PYTHON ?= python3
DATA ?= ../shared
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test pytest lint types format test-slow test-lowest cards docs site clean

help:  ## print this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with the package and the tested versions

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $(STAMP)

demo: setup  ## distil the bundled digits and score two architectures beside both baselines
	$(BIN)/dd-bench run --dataset digits --codec dct --algo dm --evaluator convnet,convnext_atto --protocol demo.v1

test: lint types pytest  ## run lint, types and the fast tests (no network, no accelerator)

pytest: setup  ## run the fast tests alone, in two processes of one thread
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup  ## check rules and formatting with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## check types with mypy, strict
	$(BIN)/mypy

format: setup  ## fix and format with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-slow: setup  ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-lowest:  ## run the fast tests with the oldest supported dependencies, in .venv-lowest (PYTHON must be 3.10)
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt -e . pytest hypothesis
	.venv-lowest/bin/python -m pytest

cards: setup  ## measure the codec cards that registry/ lacks; real data and weights lie in DATA
	$(BIN)/python benchmarks/codec_cards.py $(DATA)/data $(DATA)/weights

docs: setup  ## write the generated pages: contracts, schemas and fields
	$(BIN)/python -m latentdd_plugin.testing > docs/reference/contracts.md
	$(BIN)/python -m latentdd_plugin.leaderboard.schema docs

site: setup  ## build the documentation and the leaderboard as one site, without a network, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean:  ## remove caches and build outputs, but not .venv or runs
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
