# `make` lists the commands. Everything runs from .venv, which scripts/bootstrap makes.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

INVENTORY ?= inventory/lab
SCENARIO ?= default
CI_SCENARIOS := sparkd default
bin := .venv/bin
play := $(bin)/ansible-playbook -i $(INVENTORY)
stage := scripts/stage

# Molecule and ansible-lint find their tools on PATH; -u so that progress is seen when output is not a terminal.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- the lab ---------------------------------------------------------------------------------------------------------

.PHONY: cluster
cluster: ## From a bare machine to a running cluster of three lab hosts, with a word count on it
	@$(stage) "Tools" scripts/bootstrap
	@$(stage) "Lab hosts" $(play) playbooks/lab/up.yml
	@$(stage) "Cluster" $(play) site.yml
	@$(stage) "Word count" $(play) playbooks/wordcount.yml
	@$(stage) "Status-" $(play) playbooks/status.yml
	@scripts/next-steps $(INVENTORY)

.PHONY: lab
lab: ## Only the lab hosts, without a cluster
	@$(stage) "Tools" scripts/bootstrap
	@$(stage) "Lab hosts" $(play) playbooks/lab/up.yml

.PHONY: status
status: .venv/spark-ha-stamp ## Table of masters, workers and ensemble; fails when something is missing
	@$(play) playbooks/status.yml

.PHONY: demo
demo: .venv/spark-ha-stamp ## A whole sparkd cluster on loopback without root: a submission, the leader's death, the next leader
	@scripts/demo

.PHONY: down
down: .venv/spark-ha-stamp ## Remove the lab hosts and all that belongs to them; downloads and the image stay
	@$(play) playbooks/lab/down.yml

# --- tests -----------------------------------------------------------------------------------------------------------
# Each stage may fail the run. integration comes last: pytest's closing line is the last line.

.PHONY: test
test: lint unit molecule-ci integration ## Everything that CI runs

.PHONY: tools
tools:
	@$(stage) "Tools" scripts/bootstrap --dev

.PHONY: lint
lint: tools ## yamllint, ansible-lint (profile production), ruff, mypy
	@$(stage) "yamllint" yamllint --strict .
	@$(stage) "ruff" sh -c 'ruff check . && ruff format --check .'
	@$(stage) "mypy" scripts/typecheck
	@$(stage) "ansible-lint" ansible-lint -q

.PHONY: unit
unit: tools ## Unit tests and simulations
	@$(stage) "Unit tests" pytest -q tests/unit tests/simulation

.PHONY: molecule
molecule: tools ## One scenario on hosts of its own: make molecule SCENARIO=filesystem
	@$(stage) "Molecule $(SCENARIO)" scripts/molecule $(SCENARIO)

.PHONY: molecule-ci
molecule-ci: tools
	@set -e; for scenario in $(CI_SCENARIOS); do $(stage) "Molecule $$scenario" scripts/molecule $$scenario; done

.PHONY: molecule-all
molecule-all: tools ## Every scenario, one after the other
	@set -e; for scenario in $(CI_SCENARIOS) sparkd_filesystem filesystem single change; do $(stage) "Molecule $$scenario" scripts/molecule $$scenario; done

.PHONY: integration
integration: tools ## Tests with real parts (ZooKeeper, Spark, sshd)
	@$(stage) "Integration tests-" pytest tests/integration

.PHONY: bench
bench: tools ## Failover, recovery and throughput of sparkd beside Apache's daemons, in one run (about 25 min)
	@$(stage) "Bench-" python tests/bench/failover $(BENCH)

# --- cleaning --------------------------------------------------------------------------------------------------------

.PHONY: clean
clean: ## Remove what tests and tools leave in the checkout
	@rm -rf .cache .ansible .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: clean-all
clean-all: .venv/spark-ha-stamp ## clean, down, and also remove image, downloads and .venv
	@$(play) playbooks/lab/down.yml -e lab_purge=true
	@$(MAKE) clean
	@rm -rf .venv .lab

.venv/spark-ha-stamp: pyproject.toml
	@scripts/bootstrap
