# The workshop. `make demo` and `make test` set themselves up; nothing outside this folder changes.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help demo test coverage simulate chaos test-long test-all bench-files bench-spread bench-start bench-topology fuzz audit lint fmt bench clean

VERSIONS := 3.11 3.12 3.13
VENV := .venv
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
# Run, not only looked up: a version manager's stand-in may be on PATH and refuse to start.
PYTHON ?= $(shell for p in $(VERSIONS:%=python%) python3; do \
	"$$p" -c '$(RECENT)' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := $(VENV)/bin
SIMULATED ?= 2000
SEEDS ?= 2000
MINUTES ?= 10
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

help:
	@echo "make demo       three instances on this machine share a folder of pictures"
	@echo "make test       style, types, import contract, tests"
	@echo "make coverage   the tests, and which lines they reach"
	@echo "make simulate   the protocol in virtual time, under every fault (SEEDS=2000, or SEED=7)"
	@echo "make chaos      five hosts under load, broken in every way (MINUTES=10; needs root)"
	@echo "make test-long  the tests that take minutes"
	@echo "make test-all   the tests on Python $(VERSIONS)"
	@echo "make fuzz       looks for input that a reader does not expect, for SECONDS=300"
	@echo "make audit      known weaknesses, in the code and in what it needs"
	@echo "make bench      measures, beside a peer in the same run"
	@echo "make bench-files  measures a file of 1 GiB: rate and memory"
	@echo "make bench-spread  measures how work spreads, and what the loss of a worker costs"
	@echo "make bench-start  measures what an import of offload costs, beside one of aiohttp"
	@echo "make bench-topology  measures how soon five hosts know of one another (needs root)"
	@echo "make lint, make fmt, make clean"

demo: $(VENV)/demo.stamp
	@$(BIN)/python -m offload demo $(if $(FOLDER),"$(FOLDER)")

# Tests two at a time; then the simulator, which takes both cores; then the lab, which mostly waits.
test: lint
	@$(BIN)/python -m pytest -q -m "not long and not lab" -n 2 --dist loadfile
	@$(BIN)/python -m tests.simulation $(SIMULATED)
	@$(BIN)/python -m pytest -q -m "lab and not long"

# A seed is a small world of its own; one that fails is named, and alone it tells all that happens.
simulate: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.simulation $(if $(SEED),--trace $(SEED),$(SEEDS)) \
		$(if $(MUTANT),--mutant $(MUTANT))

# Five instances in network namespaces; one that loses or doubles a job ends it with an error.
chaos: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.lab.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

coverage: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest -q -m "not long and not lab" -n 2 --dist loadfile \
		--cov --cov-report=term:skip-covered

test-long: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest -q -m long

fuzz: $(VENV)/fuzz.stamp
	@$(BIN)/python tests/fuzz/fuzz.py $(or $(SECONDS),300)

# Asks the package index what is known against each package; bandit is part of `make lint`.
audit: $(VENV)/audit.stamp
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive offload
	@$(BIN)/pip-audit --skip-editable --progress-spinner off

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "make fmt would change files"; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive offload

fmt: $(VENV)/dev.stamp
	@$(BIN)/ruff check --fix --quiet; $(BIN)/ruff format

bench: $(VENV)/demo.stamp
	@$(BIN)/python benchmarks/bench.py $(ARGS)

# A file of 1 GiB from process to process: rate beside a bare upload, and memory above idle.
bench-files: $(VENV)/demo.stamp
	@$(BIN)/python benchmarks/files.py $(ARGS)

bench-spread: $(VENV)/demo.stamp
	@$(BIN)/python benchmarks/spread.py $(ARGS)

bench-start: $(VENV)/demo.stamp
	@$(BIN)/python benchmarks/start.py $(ARGS)

bench-topology: $(VENV)/dev.stamp
	@PYTHONPATH=. $(BIN)/python benchmarks/topology.py $(ARGS)

# Every version there is, then a failure if one was missing: green means green on all.
test-all:
	@missing=; \
	for version in $(VERSIONS); do \
		found=; \
		for p in python$$version $(HOME)/.pyenv/versions/$$version.*/bin/python; do \
			"$$p" -c '$(RECENT)' 2>/dev/null && { found=$$p; break; }; \
		done; \
		if [ -z "$$found" ]; then echo "python$$version: not found"; missing=1; continue; fi; \
		echo "== Python $$version"; \
		$(MAKE) PYTHON="$$found" VENV=.venv-$$version suite || exit 1; \
	done; [ -z "$$missing" ]

.PHONY: suite
suite: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest -q -m "not long and not lab" -n 2 --dist loadfile
	@$(MAKE) lab

clean:
	rm -rf .venv .venv-3.* .*_cache .coverage .fuzz .hypothesis build dist demo-out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Making them again changes nothing; one that broke off halfway is made again.
$(VENV)/demo.stamp $(VENV)/dev.stamp $(VENV)/fuzz.stamp $(VENV)/audit.stamp: pyproject.toml
	@"$(PYTHON)" -c '$(RECENT)' 2>/dev/null || { echo "offload needs Python 3.11 or newer" \
		"(Debian, Ubuntu: apt install python3 python3-venv)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv:" \
		"install the package $$("$(PYTHON)" -c 'import sys; print("python%d.%d-venv" \
		% sys.version_info[:2])') (Debian, Ubuntu) and try again" >&2; exit 1; }
	@$(BIN)/python -c 'import pip; $(RECENT)' 2>/dev/null || { echo "setting up $(VENV) ..."; \
		"$(PYTHON)" -m venv --clear $(VENV); }
	@$(PIP) install --editable '.[$(basename $(notdir $@))]'
	@touch $@
