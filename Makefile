# Everything that one does with the project, from a clean clone on. `make` alone lists it.
# Each target does its own set-up; a second run of any needs no network.

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test soak check fmt bench lock clean

PYTHON_ENV := .venv/bin
# The Nix of PATH where it is usable, else the portable one: tools/provision/system_nix.py.
WITH_NIX = PATH="$$(cat .cache/nix/chosen):$$PATH"

help: ## this list
	@awk -F ' *## *' '/^[a-z-]+:.*##/ { split($$1, name, ":"); printf "make %-10s %s\n", name[1], $$2 }' Makefile

setup: ## the command at .venv/bin/piste, and a portable Nix at .cache/nix/bin
	@tools/setup

setup-dev: ## set-up for tests and checks: their packages, and the Nix of three Debian releases
	@tools/setup --dev --nix forky --nix trixie --nix bookworm

clean: ## removes what set-up made: .venv, .cache and the tools' own folders
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests tools -name __pycache__ -prune -exec rm -rf {} +
