PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

DEVICE ?= cuda
FUZZ ?= 50
KILLS ?= 8

PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest

.PHONY: demo test slow check fuzz crash gpu wheels format clean

DEMO := runs/demo/$(shell date +%Y%m%d-%H%M%S)
TRY := $(BIN)/offramp train --data digits --net vgg7:width=16 --epochs 8 --set augment=none

demo: $(INSTALLED)  ## Train joint and DFS on the embedded data, print the comparison (under 3 minutes).
	$(TRY) --method joint --out $(DEMO)/joint
	$(TRY) --method dfs --out $(DEMO)/dfs
	$(BIN)/offramp compare $(DEMO)/joint $(DEMO)/dfs --out $(DEMO)/comparison.png

test: $(INSTALLED)  ## Run the test suite but for the slow tests, a process of one thread on each core.
	$(PYTEST) -n auto --dist worksteal -m "not slow"

slow: $(INSTALLED)  ## Run the slow tests one by one, since many start processes: backbones, published tables, Ray, crashes.
	$(PYTEST) -m slow

check: $(INSTALLED)  ## Linter, formatter and type checker, as CI runs them.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fuzz: $(INSTALLED)  ## Try 50 times as many inputs as `make test` does, others each time: FUZZ=50, about an hour.
	OMP_NUM_THREADS=1 FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/fuzz tests/runtime/server/test_fuzz_http.py -n auto --dist worksteal --timeout 7200

crash: $(INSTALLED)  ## Kill, starve and damage runs at random moments; all must end as if left alone.
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.crash --kills $(KILLS)

gpu: $(INSTALLED)  ## Check every method on a GPU against the CPU, then measure; DEVICE=cpu does it small.
	$(BIN)/python benchmarks/gpu.py --device $(DEVICE)

wheels:  ## Build both wheels, and run the main command of each in an empty environment (several minutes).
	PYTHON=$(PYTHON) .ci/wheels

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml runtime/pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[cli,data,vision,text,deploy,ray,report,dev]" -e "./runtime[server,images]"
	touch $@

clean:  ## Remove what `make` made, but not the runs.
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
