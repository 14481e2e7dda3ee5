# What can be done here. Needs make and a Python from 3.11 on; Go where real servers are tested.
# Everything that is made goes into .venv, .venvs and ~/.cache/versioned-zarr.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test check docs torture format bench servers clean

PYTHON = $(or $(shell tools/find-python),$(error Python 3.11 or newer, with venv, is needed))

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

demo: ## commit, branch, diff and check out two climate scenarios
	@$(PYTHON) tools/environments.py demo
	@.venv/bin/python examples/demo.py

test: ## everything: linters, types, all tests in all environments, examples, notebook
	@$(PYTHON) tools/run_tests.py

check: ## the same in short: linters, types and unit tests, under two minutes
	@$(PYTHON) tools/run_tests.py --quick

docs: ## build the documentation site into build/docs
	@$(PYTHON) tools/run_tests.py --docs

torture: ## crashes, interrupts and races at every moment; TIMES=20 SEED=0 make torture
	@VERSIONED_ZARR_TORTURE=$(or $(TIMES),20) VERSIONED_ZARR_SEED=$(or $(SEED),0) $(PYTHON) tools/run_tests.py --torture

format: ## put the code into the form that `check` asks for
	@$(PYTHON) tools/environments.py py313-zarr
	@.venvs/py313-zarr/bin/ruff check --fix-only versioned_zarr tests tools examples benchmarks docs
	@.venvs/py313-zarr/bin/ruff format versioned_zarr tests tools examples benchmarks docs

bench: ## measure, beside the peers: a table and JSON
	@$(PYTHON) tools/environments.py bench
	@.venvs/bench/bin/python -m benchmarks

servers: ## build the real servers that tests talk to, and the suite that tests ours
	@$(PYTHON) tools/build_server.py

clean: ## remove what was made here; the built servers stay
	rm -rf .venv .venvs .test-results .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	rm -rf .import_linter_cache demo-output
