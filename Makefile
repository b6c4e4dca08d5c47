# `make demo` and `make test` set up everything they need in .venv.
# CONSTRAINTS=/dev/null lifts the choice of a CPU build of torch. Python compiles what it imports, and pip need not
# compile everything; where Python is told not to keep that, as images of containers do, each start takes twice as long.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test coverage slow reproductions docs lint format clean

demo: .venv/.ready
	$(BIN)/lightning-regimes fit -c configs/pinn_convection.yaml

test: .venv/.ready
	$(BIN)/python -m pytest -m "not slow and not reproduction and not peer"

# Apart from the tests, which take half as long again when every line is counted.
coverage: .venv/.ready
	$(BIN)/python -m pytest -m "not slow and not reproduction and not peer" --cov --cov-report=term:skip-covered --cov-fail-under=90

slow: .venv/.ready
	$(BIN)/python -m pytest -m slow

# Published results that take minutes of training each.
reproductions: .venv/.ready
	$(BIN)/python -m pytest -m reproduction

# Every link, image and reference that leads nowhere is an error; the pages open from disk, in site/.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-compile -c $(CONSTRAINTS) -e ".[test]"
	touch $@

.venv/.dev: .venv/.ready
	$(BIN)/python -m pip install --no-compile -c $(CONSTRAINTS) -e ".[dev]"
	touch $@

.venv/.docs: .venv/.ready
	$(BIN)/python -m pip install --no-compile -c $(CONSTRAINTS) -e ".[docs]"
	touch $@

clean:
	rm -rf .venv build dist site *.egg-info
