# Two commands do everything on a machine with Python, make and a package registry:
#   make demo   set up, then label and search the bundled clips with the bundled model
#   make test   set up, then run the tests (make test-system: the slow ones, with real processes and a browser)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := .ci/constraints.txt
DEV := lancedb mcp mteb mypy opentimelineio otio-cmx3600-adapter otio-fcp-adapter otio-fcpx-xml-adapter playwright protobuf \
	pyarrow pympi-ling pytest pytest-xdist ray[data] ruff sentencepiece srt sse-starlette starlette transformers usearch \
	uvicorn watchfiles webvtt-py
# one thread each: two processes with two threads each would wait for one another on two cores
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: demo test test-system test-latest package lint lock docs docs-check bench speed clean

$(STAMP): pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint $(LOCK) --editable . $(DEV)
	touch $@

demo: export STOPCLI_HOME = $(VENV)/home
demo: $(STAMP)
	$(BIN)/stop samples $(VENV)/samples --force > /dev/null
	$(BIN)/stop classify --model mini --top-k 2 $(VENV)/samples
	$(BIN)/stop retrieve --model mini "a dog moving left" $(VENV)/samples --top-k 3

test: $(STAMP)
	$(PYTEST) tests/unit tests/cli

test-system: $(STAMP)
	$(PYTEST) --dist worksteal tests/system

# the sdist, and the wheel of it, installed into a clean environment and used
package:
	PYTHON=$(PYTHON) .ci/package.sh

# the newest release of everything that pyproject.toml allows, instead of the lock
test-latest:
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/pip install --quiet --upgrade --upgrade-strategy eager --editable . $(DEV)
	.venv-latest/bin/python -m pytest -n 2 tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# CUDA's own packages are left out: torch names them itself, and its CPU build has none
lock:
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --group dev --no-header \
		--no-annotate pyproject.toml > $(LOCK).new
	(echo "# The versions that the tests are run with, made by 'make lock'. CPU and CUDA builds alike."; \
		grep -vE '^(nvidia|cuda|triton)' $(LOCK).new) > $(LOCK) && rm $(LOCK).new

docs: $(STAMP)
	$(BIN)/python docs/tools/make.py

docs-check: $(STAMP)
	$(BIN)/python docs/tools/make.py --check

speed: $(STAMP)
	$(BIN)/python tests/benchmarks/versus.py $(CLIPS) -o docs/speed.md

bench: $(STAMP)
	$(BIN)/python tests/benchmarks/startup.py
	$(BIN)/python tests/benchmarks/stop_cost.py
	$(BIN)/python tests/benchmarks/long_video.py

clean:
	rm -rf $(VENV) .venv-latest .pytest_cache .mypy_cache .ruff_cache
