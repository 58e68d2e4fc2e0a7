# Everything a fresh machine needs: Python 3.11 or newer. `make demo` and `make test` set up .venv themselves.
PYTHON ?= python3
BIN = .venv/bin
THREADS = TOKENIZERS_PARALLELISM=false

.PHONY: demo test test-all guards docs setup benchmarks clean

demo: setup
	$(THREADS) $(BIN)/werkmeister build examples/voice-commands-demo
	$(BIN)/werkmeister ask examples/voice-commands-demo "mach bitte das Licht in der Küche an"

test: setup
	$(THREADS) $(BIN)/python -m pytest

test-all: setup
	$(THREADS) $(BIN)/python -m pytest -m "not gpu" -rs

guards: setup
	$(BIN)/ruff format --check src tests benchmarks examples tools notebooks
	$(BIN)/ruff check src tests benchmarks examples tools notebooks
	$(BIN)/mypy
	$(BIN)/python tools/generate_docs.py --check
	$(BIN)/python tools/make_notebook.py --check

docs: setup
	$(BIN)/python tools/generate_docs.py
	$(BIN)/python tools/make_notebook.py

benchmarks: setup
	$(BIN)/python benchmarks/train_cpu.py
	$(BIN)/python benchmarks/answer_cpu.py

setup: .venv/complete

.venv/complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist
