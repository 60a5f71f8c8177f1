# make search   set up, search on the built-in digits, and answer
# make test     set up, then lint, types, layers and all tests
# make faults   what a search must survive, in its long form: kills, cuts, full disks, fuzzing; the last line is JSON
# make ui       MLflow's pages over what was searched
# make bench    the benchmarks, briefly
# make audit-lock  known vulnerabilities of the packages in cluster/requirements.lock, from a public service
# make clean    remove the environment and caches; outputs/ stays
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
ARGS   ?=
# Beside each other, and one thread a process: torch's threads wait for each other by spinning.
UNIT   := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not e2e" -n logical --maxprocesses 8

.PHONY: search test fast faults ui bench audit-lock clean

search: $(READY)
	$(BIN)/python -m ambient_ray.search $(ARGS)

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(UNIT)
	$(BIN)/python -m pytest -m e2e -n 2 --dist loadfile --durations=12

fast: $(READY)
	$(UNIT)

faults: $(READY)
	$(BIN)/python tests/faults/run.py $(ARGS)

ui: $(READY)
	$(BIN)/mlflow ui --backend-store-uri sqlite:///$(CURDIR)/outputs/mlflow.db --host 127.0.0.1 --port 5000

bench: $(READY)
	for script in loop rung search step sampling packed overhead startup evaluation scale tracking; do $(BIN)/python benchmarks/$$script.py --quick || exit 1; done

# --strict: a package that the service does not know is a failure, not a pass.
audit-lock: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement cluster/requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# The environment is made once, and made again only when pyproject.toml has changed.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
