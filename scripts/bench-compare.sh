#!/usr/bin/env bash
# Hurtig beside real Flink: `make bench-compare`. Variables: HURTIG (a release binary; built if not given), QUERIES,
# TABLES, EVENTS, MAX_EVENTS, PARALLELISM, INTERVAL_MS, ROUNDS, OUT; MEMORY=1, FRESH=1, CHECK_ONLY=1.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${HURTIG:-}" ]; then
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/hurtig/target}
    echo "bench: building with optimisation (a first time takes about 40 minutes on two cores; HURTIG=path uses another binary)"
    cargo build --release -p hurtig --bin hurtig
    HURTIG=$CARGO_TARGET_DIR/release/hurtig
fi
arguments=(--hurtig "$HURTIG")
add() { if [ -n "${!1:-}" ]; then arguments+=("$2" "${!1}"); fi; }
add QUERIES --queries
add TABLES --tables
add EVENTS --events
add MAX_EVENTS --max-events
add PARALLELISM --parallelism
add INTERVAL_MS --interval-ms
add ROUNDS --rounds
add OUT --out
if [ -n "${MEMORY:-}" ]; then arguments+=(--memory); fi
if [ -n "${FRESH:-}" ]; then arguments+=(--fresh); fi
if [ -n "${CHECK_ONLY:-}" ]; then arguments+=(--check-only); fi
exec python3 benches/compare/compare.py "${arguments[@]}"
