# Every target works as the first command after a clone: each one makes .venv if it is not there.
# Needs git, make, a C compiler and Python 3.11 or later. `make help` lists the targets.

.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
INSTALLED := .venv/.installed
TESTS ?= tests
WORKERS ?= 2
SOAK_S ?= 300
MODEL_STEPS ?= 1000000
RACE_S ?= 300
CRASHES ?= 300
SIM_S ?= 300
TIER_RACES ?= 100000

.PHONY: help setup demo test soak model crash tier-race check format lint types imports docs docs-check conformance scoreboard bench \
	bench-purge bench-mesh lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(INSTALLED): requirements/dev.txt pyproject.toml tools/setup
	@PYTHON="$(PYTHON)" tools/setup

setup: $(INSTALLED) ## Make .venv with everything in it, from the lock

demo: $(INSTALLED) ## See the cache at work: an origin, an edge, and what goes over the wire
	@$(BIN)/banish demo

test: $(INSTALLED) ## Run the tests (TESTS=path narrows them down)
	$(BIN)/pytest -n $(WORKERS) $(TESTS)

soak: $(INSTALLED) ## Random clients, origins and purges against a whole edge, seed after seed (SOAK_S=300)
	$(BIN)/python -m tests.soak.run --seconds $(SOAK_S)

model: $(INSTALLED) ## Any steps of an edge in any order against a short model of what it promises (MODEL_STEPS=1000000)
	$(BIN)/python -m tests.model.run --steps $(MODEL_STEPS)

crash: $(INSTALLED) ## Kill a real edge under load, cut its power, restore old files, break its disk (CRASHES=300)
	$(BIN)/python -m tests.crash.run --crashes $(CRASHES)

tier-race: $(INSTALLED) ## Purges, and refills from parents that have not heard of them, in any order (TIER_RACES=100000)
	$(BIN)/python -m tests.tierrace.run --races $(TIER_RACES)

sim: $(INSTALLED) ## Whole meshes in simulated time, with every fault a seed draws, seed after seed (SIM_S=300)
	$(BIN)/python -m tests.simulation.run --seconds $(SIM_S)

spread: $(INSTALLED) ## One purge round the world: the real core in 308 cities, with loss and a partition (minutes)
	$(BIN)/python -m tests.simulation.cities

check: lint types imports docs-check test ## All that must hold before a change is merged

format: $(INSTALLED) ## Put the code in its standard form
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: $(INSTALLED) ## Formatting and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED) ## Type check, strict
	$(BIN)/mypy

imports: $(INSTALLED) ## Imports flow one way
	$(BIN)/lint-imports --no-cache

docs: $(INSTALLED) ## Write the reference pages from the tables in the code
	$(BIN)/python tools/reference.py

docs-check: $(INSTALLED) ## Are the reference pages up to date?
	$(BIN)/python tools/reference.py --check

conformance: $(INSTALLED) ## Score against the npm edition of http-cache-tests (needs node)
	$(BIN)/python tests/conformance/run.py npm

scoreboard: $(INSTALLED) ## Score against a checkout of the current suite: CACHE_TESTS_DIR=...
	$(BIN)/python tests/conformance/run.py current

bench: $(INSTALLED) ## CPU per hit beside nginx's (nginx is compared with if it is there)
	$(BIN)/python bench/hit/run.py

bench-purge: $(INSTALLED) ## What purging costs, beside Varnish's and nginx's if they are there; then the race (RACE_S=300)
	$(BIN)/python bench/purge/run.py
	$(BIN)/python bench/purge/race.py --seconds $(RACE_S)

bench-mesh: $(INSTALLED) ## A purge across five edges above the delay between them; targets a second through all
	$(BIN)/python bench/mesh/run.py

lock: $(INSTALLED) ## Pin the dependencies anew (UPGRADE=1 takes the newest)
	tools/lock $(if $(UPGRADE),--upgrade)

clean: ## Remove all that the other targets made
	rm -rf .venv .conformance .hypothesis .mypy_cache .ruff_cache build dist src/*.egg-info
