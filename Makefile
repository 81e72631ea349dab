# Everything that one does with the project, from a clean clone on. `make` alone lists it.
# Each target does its own set-up; a second run of any needs no network.

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test soak check fmt bench lock clean

BIN := .venv/bin
SOURCES := src tests tools benchmarks examples
# The Nix on PATH where it is usable, else the portable one: tools/provision/system_nix.py.
WITH_NIX = PATH="$$(cat .cache/nix/chosen):$$PATH"
# Further arguments for what a target runs: make demo ARGS=--keep, make test ARGS=tests/unit
ARGS ?=

help: ## this list
	@awk -F ' *## *' '/^[a-z-]+:.*##/ { split($$1, name, ":"); printf "make %-10s %s\n", name[1], $$2 }' Makefile

# Python environment (run-time packages) and portable Nix; outside of this folder nothing changes.
setup: ## the command at .venv/bin/piste, and a portable Nix at .cache/nix/bin
	@tools/setup

# The same and more: what tests and checks need, and the three Nix versions that the hub is tested with.
setup-dev: ## set-up for tests and checks: their packages, and the Nix of three Debian releases
	@tools/setup --dev --nix trixie --nix bookworm --nix forky

# A hub, two publications, a host: everything on loopback and in a scratch folder that is removed again.
demo: setup ## the way of a release from a flake to a running host, in under a minute
	@$(WITH_NIX) $(BIN)/python -m examples.demo.run $(ARGS)

# One worker a core of the smallest machine that we care for; a file's tests stay together, with their hub.
test: setup-dev ## all tests but the long ones, at most 15 minutes on two cores
	@$(WITH_NIX) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not soak" $(ARGS)

# What takes long: many repetitions, large files.
soak: setup-dev ## the long tests
	@$(WITH_NIX) $(BIN)/python -m pytest -m soak $(ARGS)

# All of them run, so that one look shows everything that is wrong.
check: setup-dev ## lint, format, strict types, import contracts, documentation
	@$(BIN)/python -m tools.check

fmt: setup-dev ## formats the code and sorts the imports
	@$(BIN)/ruff check --quiet --fix --select I $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/python -m tools.import_graph --write

# One after the other, since two at once would measure one another.
bench: setup-dev ## measures what is promised: speed, memory, size
	@missed=; for file in benchmarks/[!_]*.py; do \
	    name=$$(basename "$$file" .py); \
	    $(WITH_NIX) $(BIN)/python -m "benchmarks.$$name" $(ARGS) || missed="$$missed $$name"; \
	done; \
	[ -z "$$missed" ] || { echo "a bound was not met, or something failed:$$missed"; exit 1; }

# After a change of a dependency in pyproject.toml; ARGS=--upgrade moves what that leaves open.
lock: setup ## writes requirements/*.lock anew
	@tools/lock $(ARGS)

# Not the login, which is not in this folder.
clean: ## removes what set-up and the tools made
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests tools -name __pycache__ -prune -exec rm -rf {} +
