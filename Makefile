# Two commands for a bare machine with Python 3.11+: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE := 1
# Tests start hundreds of processes: what one has compiled, the others read.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: demo test suite check lint types docs model clean

demo: .venv/installed
	$(BIN)/graphflow run workflows/two_things.json

# The types are checked beside the tests. What has to run alone is not searched for in all files.
test: lint
	$(MAKE) --jobs 2 types suite
	$(BIN)/pytest -m alone $$(grep -rl --include='test_*.py' --exclude-dir=clients mark.alone tests)

# Files begin in the order of tests/longest.txt; pytest-xdist's own order puts those with few long tests at the end.
suite: .venv/installed
	$(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder -m "not alone"

check: lint types

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports

types: .venv/installed
	$(BIN)/mypy

docs: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

# The larger model of the package, from new weights: images with captions, then the workflow that trains it. It takes
# an hour and a half of a core; stopped at any time, it goes on where it was. It is in output/model/output/diffusers.
model: .venv/installed
	$(BIN)/python -m training.scene_data output/model $(MODEL_DATA)
	$(BIN)/graphflow run training/workflows/scenes.json --input-dir output/model/input --models output/model/models \
		--output-dir output/model/output --cache-dir output/model/cache --checkpoint-every 180 --device cpu $(MODEL_SET)

# torch is named first and pinned, so that no other package asks for a newer build of several gigabytes.
.venv/installed: pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv output
