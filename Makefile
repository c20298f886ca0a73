# Hurtig: everything a user or developer needs from the shell. `make help` lists it.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# One target folder outside the checkout serves every clone and work tree.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/hurtig/target
HURTIG := $(CARGO_TARGET_DIR)/debug/hurtig
PREFIX ?= $(HOME)/.local

.PHONY: notices help setup build run test lint test-conformance test-chaos test-simulation example-python example-embed install dist bench bench-compare bench-check bench-flink clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: ## Install what the build needs (system packages); does nothing when all is there
	@scripts/setup.sh

build: setup ## Build the hurtig binary (development profile)
	@scripts/build.sh

run: build ## Replay a year of flights as a live streaming job (SPEED=max: as fast as it goes)
	@$(HURTIG) demo --file examples/flights/flights.sql --speed $(or $(SPEED),year-in-30s)

test: setup ## Run every test
	@scripts/test.sh

lint: setup ## Formatting and clippy, warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

test-simulation: setup ## The control plane under 20,000 seeds of failures
	HURTIG_SIMULATION_SEEDS=20000 cargo test -p hurtig-scheduler --lib -- simulator --nocapture

test-conformance: build ## Only the comparison with Flink's answers, if the suite is there
	@scripts/conformance.sh

test-chaos: setup ## 20 random schedules of faults, as root (HURTIG_CHAOS_SEED=n: the one of that seed)
	HURTIG_CHAOS_SCHEDULES=$(or $(SCHEDULES),20) cargo test -p hurtig --test it -- chaos::schedules --exact --nocapture

example-python: build ## Submit a keyed-window job graph over gRPC from Python
	@scripts/example-python.sh

example-embed: setup ## Build and run the crate that embeds Hurtig
	cargo run --manifest-path examples/embed/Cargo.toml

install: setup ## Build with optimisation and install the binary under PREFIX (default ~/.local)
	@echo "install: a first optimised build takes about 40 minutes on two cores"
	cargo build --release -p hurtig --bin hurtig
	install -Dm755 $(CARGO_TARGET_DIR)/release/hurtig $(PREFIX)/bin/hurtig
	@echo "installed $(PREFIX)/bin/hurtig; add $(PREFIX)/bin to PATH if it is not there"

dist: setup ## Build a tarball that runs on a bare Debian
	@scripts/dist.sh

bench: setup ## Criterion microbenchmarks (release profile)
	cargo bench -p hurtig-benches

# HURTIG counts here only where it is given on make's command line: the binary must be an optimised one.
BENCH_VARIABLES = HURTIG="$(if $(findstring command,$(origin HURTIG)),$(HURTIG))" QUERIES="$(QUERIES)" \
	TABLES="$(TABLES)" EVENTS="$(EVENTS)" MAX_EVENTS="$(MAX_EVENTS)" PARALLELISM="$(PARALLELISM)" \
	INTERVAL_MS="$(INTERVAL_MS)" ROUNDS="$(ROUNDS)" OUT="$(OUT)" MEMORY="$(MEMORY)" FRESH="$(FRESH)"

bench-compare: ## Hurtig beside real Flink on Nexmark (QUERIES=q0,q12 EVENTS=10000000 PARALLELISM=2 ...: docs/benchmarks.md)
	@$(BENCH_VARIABLES) scripts/bench-compare.sh

bench-check: ## Only compare the results of Hurtig and real Flink
	@$(BENCH_VARIABLES) CHECK_ONLY=1 scripts/bench-compare.sh

bench-flink: ## Download Flink for bench-compare into the cache folder
	@python3 benches/compare/flink.py

notices: ## Write THIRD-PARTY-NOTICES.md
	python3 scripts/third-party-notices.py THIRD-PARTY-NOTICES.md

clean: ## Remove the shared target folder
	rm -rf "$(CARGO_TARGET_DIR)"
