# Two commands for a bare machine with Python 3.11+: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE := 1
.PHONY: demo test check docs model clean

demo: .venv/installed
	$(BIN)/graphflow run workflows/text_to_image.json

test: check
	$(BIN)/pytest -n 3 --dist loadscope -m "not alone"
	$(BIN)/pytest -m alone

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

model: .venv/installed
	$(BIN)/python -m training.train_tiny

# torch is named first and pinned, so that no other package asks for a newer build of several gigabytes.
.venv/installed: pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv output
