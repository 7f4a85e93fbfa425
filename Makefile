# Two commands set everything up: `make demo` shows a student in a minute, `make check` runs what CI runs.
PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)

.PHONY: demo check install format tables docs

demo: install
	$(BIN)/datafree demo

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/build.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install
	$(BIN)/python docs/build.py

tables: install
	$(BIN)/python benchmarks/tables.py

install: .venv/installed

# uv installs in seconds what takes pip minutes; where it is missing it is put into the environment itself.
.venv/installed: pyproject.toml
	test -d .venv || $(PYTHON) -m venv .venv
ifeq ($(UV),)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[dev]'
else
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[dev]'
endif
	touch $@
