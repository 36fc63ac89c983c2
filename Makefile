# Everything goes through a virtual environment of our own, .venv; nothing is installed outside this folder.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

RUNTIME ?= auto
ARGS ?=
VENV := .venv
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
LONG_BENCHES := tests/bench/bench_theory.py tests/bench/bench_truths.py tests/bench/bench_restore.py
# Most tests wait, so three workers keep two cores busy; tests/steps.py says which tests run alone.
PYTEST := $(VENV)/bin/pytest -n 3 --dist loadfile --durations=20 --durations-min=0.5
NIGHTLY := nightly-tests mutations selftest kill-test gameday-kills green-test fuzz theory truths restores switchovers
STEPS ?= $(NIGHTLY)
export NAME RUNTIME
NAMES = $(sort $(basename $(notdir $(wildcard experiments/*.yaml))))

.PHONY: help setup setup-dev experiment test test-all nightly $(NIGHTLY) lint bench images clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "  experiments: $(NAMES)"

setup: $(READY) ## the virtual environment, with everything that an experiment needs

setup-dev: $(READY_DEV) ## the same, with the tools for tests and style

experiment: $(if $(NAME),$(READY)) ## run one: NAME=idc-fire [RUNTIME=auto|embedded|compose] [ARGS="--set k=v"]
	@if [ -z "$(NAME)" ]; then \
	  echo "which one? make experiment NAME=…   there are: $(NAMES)" >&2; exit 2; fi
	@$(VENV)/bin/chaoslab run "$$NAME" --runtime "$$RUNTIME" $(ARGS) || { code=$$?; \
	  case $$code in 1) means="fail";; 2) means="wrong spec or command line";; 3) means="inconclusive";; 4) means="aborted";; \
	    5) means="error";; 6) means="clean-up is incomplete";; 130) means="interrupted";; *) means="ended by a signal";; esac; \
	  echo "$$NAME: $$means (exit code $$code)" >&2; exit $$code; }

test: $(READY_DEV) ## the quick tests, without a Docker engine, and one run of idc-fire; 8 minutes [ARGS="tests/spec -x"]
	@$(PYTEST) -m "not browser and not docker and not toxiproxy and not slow and not nightly" $(ARGS)

test-all: $(READY_DEV) ## all tests except the nightly ones, with Docker and Chromium; CHAOSLAB_REQUIRE_DOCKER=1 allows no skips [ARGS=…]
	@$(PYTEST) -m "not nightly" $(ARGS)

nightly: $(READY_DEV) ## the tests that take hours, one step after the other [STEPS="selftest fuzz"] [ARGS=… for all of them]
	@failed=; for step in $(STEPS); do echo "== $$step"; $(MAKE) $$step || failed="$$failed $$step"; done; \
	  if [ -n "$$failed" ]; then echo "nightly: failed:$$failed" >&2; exit 1; fi

nightly-tests: $(READY_DEV)
	@$(PYTEST) -m nightly $(ARGS)

mutations: $(READY_DEV) ## break the main function of each layer: its tests must fail [ARGS="--only judge"]
	@$(VENV)/bin/python tests/mutations.py $(ARGS)

selftest: $(READY) ## run every known-bad stack: each must fail as stated [RUNTIME=…] [ARGS="--only NAME"]
	@$(VENV)/bin/chaoslab selftest --runtime "$$RUNTIME" $(ARGS)

green-test: $(READY_DEV) ## repeat a good stack: every run must pass [RUNTIME=…] [ARGS="--runs 20"]
	@$(VENV)/bin/python tests/e2e/green_runs.py $(ARGS)

kill-test: $(READY_DEV) ## kill the harness at 50 moments of a run and check that nothing is left behind [RUNTIME=compose] [ARGS="--kills 9"]
	@$(VENV)/bin/python tests/kill/kill_harness.py --runtime $(if $(filter auto,$(RUNTIME)),embedded,$(RUNTIME)) $(ARGS)

gameday-kills: $(READY_DEV) ## kill 10 game days 50 times, and check that their pages stay the same [ARGS="--kills 9 --nights 3"]
	@$(VENV)/bin/python tests/kill/gameday_kills.py $(ARGS)

fuzz: $(READY_DEV) ## broken and hostile files and overrides through the loader [ARGS="--for 60s --seed 1"]
	@$(VENV)/bin/python tests/spec/fuzz_loader.py $(ARGS)

lint: $(READY_DEV) ## style, format and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

bench: $(READY_DEV) ## benchmarks: figures and ratios, without pass or fail
	@set -e; for bench in $(filter-out $(LONG_BENCHES),$(wildcard tests/bench/bench_*.py)); do echo "== $$bench"; $(VENV)/bin/python $$bench; done

theory: $(READY_DEV) ## measured failovers compared with the sum of the stack's time-outs [ARGS="--fires 12 --runtime compose"]
	@$(VENV)/bin/python tests/bench/bench_theory.py $(ARGS)

truths: $(READY_DEV) ## verdicts of runs on a machine that is disturbed in a known way [ARGS="--only busy --times 2 --runtime compose"]
	@$(VENV)/bin/python tests/bench/bench_truths.py $(ARGS)

restores: $(READY_DEV) ## defects of a backup: each of 24 must be found when it is restored, and 20 sound backups must be restored [ARGS="--part 1/3"]
	@$(VENV)/bin/python tests/bench/bench_restore.py $(ARGS)

switchovers: $(READY) ## twenty planned switchovers on one stack, all of which must pass [RUNTIME=…]
	@$(VENV)/bin/chaoslab run planned-switchover --runtime "$$RUNTIME" --repeat 20 --same-stack $(ARGS)

images: $(READY) ## the container images for RUNTIME=compose
	@$(VENV)/bin/python compose/images/build.py

clean: ## remove what can be rebuilt; runs/ is kept
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml .ci/venv
	@.ci/venv all
	@touch $@

$(READY_DEV): pyproject.toml .ci/venv
	@.ci/venv all,dev
	@touch $(READY) $@
