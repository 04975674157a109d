# Two commands do everything on a machine with Python, make and a package registry:
#   make demo   set up, then label and search the bundled clips with the bundled model
#   make test   set up, then run every check's tests

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SAMPLES := src/stopcli/assets/samples
DEV := mypy pyarrow pytest ruff usearch

.PHONY: demo test lint docs docs-check bench clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable . $(DEV)
	touch $@

demo: $(STAMP)
	$(BIN)/stop classify --model mini --top-k 2 $(SAMPLES)
	$(BIN)/stop retrieve --model mini --query "a dog moving left" --top-k 3 $(SAMPLES)

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python docs/make.py

docs-check: $(STAMP)
	$(BIN)/python docs/make.py --check

bench: $(STAMP)
	$(BIN)/python tests/benchmarks/startup.py
	$(BIN)/python tests/benchmarks/stop_cost.py
	$(BIN)/python tests/benchmarks/long_video.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
