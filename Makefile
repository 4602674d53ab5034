# `make demo` and `make test` do all the set-up themselves on a machine with python3 (3.11+), its venv module and git.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: install demo test check crash soak bench clean

install: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e ".[dev]"
	touch $(STAMP)

# Imports the sample workspaces into .demo/ (a new folder each time), one with a past of some weeks, and serves them.
demo: install
	rm -rf .demo
	$(BIN)/python -m server.demo sample-workspaces .demo
	$(BIN)/gitstore serve --data .demo --demo

# The checks are among the tests: see tests/test_checks.py.
test: install
	$(BIN)/pytest -q -n 4 --dist worksteal

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

crash: install
	CRASH_ROUNDS=500 POWERCUT_DEPTH=1 $(BIN)/pytest -q -m crash --timeout 7200

soak: install
	SOAK_SECONDS=1800 $(BIN)/pytest -q -s tests/crash/test_soak.py --timeout 7200

bench: install
	$(BIN)/python -m bench

clean:
	rm -rf .venv .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
