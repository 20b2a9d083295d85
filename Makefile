# make demo    a small study from simulated tracks to a report
# make test    everything that needs no GPU
# make lint    ruff, mypy, shell scripts
# make bench   speed, side by side
# make audit   known faults of the pinned packages; needs the network
# make screenshots   the pictures of README.md, from the demo's study (Debian packages chromium, chromium-driver)
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
BIN := $(VENV)/bin
# A cluster on loopback that lives for one command needs no token; real clusters keep theirs.
export RAY_AUTH_MODE ?= disabled

.PHONY: demo test lint format bench audit screenshots install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "== installing into $(VENV) (a few minutes the first time)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@

demo: install
	@echo "== 1/3 a simulated genome: FASTA, bigWig, mcool and tables in $(DEMO)/genome"
	test -d $(DEMO)/genome || $(BIN)/prism-ray simulate $(DEMO)/genome --genes 400 --seed 7
	@echo "== 2/3 its feature store, built by Ray Data"
	test -d $(DEMO)/store || $(BIN)/prism-ray build $(DEMO)/genome/catalog.yaml --out $(DEMO)/store
	@echo "== 3/3 the study search_spaces/smoke.yaml on Ray Tune, tracked in MLflow, and its report"
	$(BIN)/prism-ray run search_spaces/smoke.yaml --store $(DEMO)/store --storage $(DEMO)/results
	@echo
	@echo "Report      open $(DEMO)/results/reports/smoke/report.html in a browser"
	@echo "Compare     $(BIN)/prism-ray ui smoke --storage $(DEMO)/results"

# Two processes with a Ray cluster each: much of a test's time is spent waiting for something to start. Files in the order of
# their names, since those that wait most come first.
test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/run cluster/*/*.sh cluster/slurm/*.sbatch

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks/scan.py
	$(BIN)/python benchmarks/store.py

# In an environment of its own: what audits is no part of what is audited. A package that is not found fails it (--strict).
audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet 'pip-audit>=2.9,<3'
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

screenshots: demo
	$(BIN)/python -m tests.screenshots $(DEMO)/results docs/images

clean:
	rm -rf $(VENV) $(VENV)-audit $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
