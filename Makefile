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
LONG_BENCHES := tests/bench/bench_theory.py tests/bench/bench_truths.py
export NAME RUNTIME
NAMES = $(sort $(basename $(notdir $(wildcard experiments/*.yaml))))

.PHONY: help setup experiment test selftest green-test kill-test fuzz lint bench theory truths images clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "  experiments: $(NAMES)"

setup: $(READY) ## the virtual environment, with everything that an experiment needs

experiment: $(if $(NAME),$(READY)) ## run one: NAME=idc-fire [RUNTIME=auto|embedded|compose] [ARGS="--set k=v"]
	@if [ -z "$(NAME)" ]; then \
	  echo "which one? make experiment NAME=…   there are: $(NAMES)" >&2; exit 2; fi
	@$(VENV)/bin/chaoslab run "$$NAME" --runtime "$$RUNTIME" $(ARGS) || { code=$$?; \
	  case $$code in 1) means="fail";; 2) means="wrong spec or command line";; 3) means="inconclusive";; 4) means="aborted";; \
	    5) means="error";; 6) means="clean-up is incomplete";; 130) means="interrupted";; *) means="ended by a signal";; esac; \
	  echo "$$NAME: $$means (exit code $$code)" >&2; exit $$code; }

test: $(READY_DEV) ## the tests [ARGS="-m 'not e2e'"]
	@$(VENV)/bin/pytest $(ARGS)

selftest: $(READY) ## run every known-bad stack: each must fail, and as stated [RUNTIME=…] [ARGS="--only NAME"]
	@$(VENV)/bin/chaoslab selftest --runtime "$$RUNTIME" $(ARGS)

green-test: $(READY_DEV) ## a good stack, again and again: every run must pass [RUNTIME=…] [ARGS="--runs 20"]
	@$(VENV)/bin/python tests/e2e/green_runs.py $(ARGS)

kill-test: $(READY_DEV) ## kill the harness at 50 moments of a run and look for what is left [RUNTIME=compose] [ARGS="--kills 9"]
	@$(VENV)/bin/python tests/kill/kill_harness.py --runtime $(if $(filter auto,$(RUNTIME)),embedded,$(RUNTIME)) $(ARGS)

fuzz: $(READY_DEV) ## broken and hostile files and overrides through the loader [ARGS="--for 60s --seed 1"]
	@$(VENV)/bin/python tests/spec/fuzz_loader.py $(ARGS)

lint: $(READY_DEV) ## style, format and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

bench: $(READY_DEV) ## figures and ratios, nothing that passes or fails
	@set -e; for bench in $(filter-out $(LONG_BENCHES),$(wildcard tests/bench/bench_*.py)); do echo "== $$bench"; $(VENV)/bin/python $$bench; done

theory: $(READY_DEV) ## real fires beside what the stack's own time-outs add up to [ARGS="--fires 12 --runtime compose"]
	@$(VENV)/bin/python tests/bench/bench_theory.py $(ARGS)

truths: $(READY_DEV) ## what a run says on a machine that is hurt in a known way [ARGS="--only busy --times 2 --runtime compose"]
	@$(VENV)/bin/python tests/bench/bench_truths.py $(ARGS)

images: $(READY) ## the container images for RUNTIME=compose
	@$(VENV)/bin/python compose/images/build.py

clean: ## remove what can be made again; runs/ stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml .ci/venv
	@.ci/venv all
	@touch $@

$(READY_DEV): pyproject.toml .ci/venv
	@.ci/venv all,dev
	@touch $(READY) $@
