PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test check format clean

demo: $(INSTALLED)  ## Train joint and DFS on the embedded data, print the comparison (under 3 minutes).
	$(BIN)/offramp train --data digits --net vgg7:width=16 --method joint --epochs 8 --out runs/demo/joint --resume
	$(BIN)/offramp train --data digits --net vgg7:width=16 --method dfs --epochs 8 --out runs/demo/dfs --resume
	$(BIN)/offramp compare runs/demo/joint runs/demo/dfs --out runs/demo/comparison.png

test: $(INSTALLED)  ## Run the whole test suite.
	$(BIN)/python -m pytest

check: $(INSTALLED)  ## Linter, formatter and type checker, as CI runs them.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[cli,data,dev]"
	touch $@

clean:  ## Remove what `make` made, but not the runs.
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
