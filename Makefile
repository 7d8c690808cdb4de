# Every target sets itself up: only Python 3.11 (with venv), git and make are needed.
SHELL := /bin/bash
PYTHON ?= python3
SEEDS ?= 1000
BENCH_DATA ?=
SOAK_S ?= 1800
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: env demo test check bench faults simulate soak lock docs clean

env: $(STAMP)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(BIN)/uv: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"

$(STAMP): requirements.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@$(BIN)/python -c "from aicache.streams.recommendations.combination import load_loops; load_loops()"  # compiles them
	@touch $(STAMP)

demo: env
	$(BIN)/aicache demo

# Two processes, each with a Kafka of its own: most tests on a broker wait for it.
test: env
	$(BIN)/python -m pytest tests --ignore=tests/containers --numprocesses 2 --dist worksteal

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: env
	$(BIN)/python benchmarks/run.py $(BENCH_DATA)

faults: env
	$(BIN)/python -m pytest tests --faults -m faults --timeout 3600 --results docs/faults.json
	$(BIN)/python docs/generate_faults.py

simulate: env
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

soak: env
	$(BIN)/python benchmarks/soak.py --seconds $(SOAK_S)

docs: env
	$(BIN)/python docs/generate.py

# Every version with its hashes and no address: what is installed is what was reviewed, wherever it is fetched from.
lock: $(BIN)/uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --no-header --python-version 3.11 --upgrade --quiet --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra streams --extra registry --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --no-header --python-version 3.11 --constraints requirements.lock --quiet --output-file docker/requirements.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .aicache
