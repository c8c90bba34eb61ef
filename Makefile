# Two commands do all on a fresh machine: `make run` and `make test`. Each sets up what is missing.
SHELL := /bin/bash
PY := .venv/bin/python
TARGET ?= engine
TOPO ?= diamond
SCENARIO ?=
STRATEGY ?=
SEED ?= 1
RATE ?=
BENCH ?=
MINUTES ?= 10
SWITCH ?= s1
export TARGET

.PHONY: run test lint bench fuzz p4 shell clean setup help

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: setup ## play every failure scenario under every strategy and print the scoreboard (SCENARIO= STRATEGY= TOPO= TARGET= SEED= RATE=)
	@$(PY) -m control.scoreboard --topology $(TOPO) --target $(TARGET) --seed $(SEED) $(if $(RATE),--rate $(RATE)) \
	  $(foreach s,$(SCENARIO),--scenario $(s)) $(foreach s,$(STRATEGY),--strategy $(s))

# Live networks want the machine for themselves; everything else runs side by side before them.
LIVE := tests/integration tests/topo
test: setup ## run all tests, or those that PYTEST_ARGS says
	@if [ -n "$(PYTEST_ARGS)" ]; then exec $(PY) -m pytest $(PYTEST_ARGS); fi; \
	  $(PY) -m pytest -n auto --maxprocesses 3 --dist loadfile $(LIVE:%=--ignore=%) tests; first=$$?; \
	  $(PY) -m pytest $(LIVE) && exit $$first

lint: setup ## ruff and mypy
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

bench: setup ## measure (BENCH=name for one); tables here, JSON in bench/results/
	@$(PY) -m bench $(BENCH)

fuzz: setup ## damaged packets, programs and requests against sanitized builds (MINUTES=10 for each)
	@$(PY) -m tests.fuzz --minutes $(MINUTES)

p4: setup ## recompile the P4 program (needs p4c)
	@$(PY) p4/compile.py

shell: setup ## p4runtime-shell on a switch of the running lab (SWITCH=s1)
	@deploy/setup.sh shell
	@$(PY) -m topo.shell $(SWITCH)

clean: ## remove what a crashed lab left behind, and build products (the virtual environments stay)
	@if [ -x $(PY) ]; then $(PY) -m topo.cleanup; fi
	@rm -rf build logs pcaps bench/results .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

setup: .venv/.ready ## install what is missing: Debian packages, virtual environment

.venv/.ready: requirements.lock pyproject.toml deploy/setup.sh
	@deploy/setup.sh
	@touch $@
