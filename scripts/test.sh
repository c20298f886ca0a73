#!/usr/bin/env bash
# Every test: formatting, unit and integration tests, the embedding example, the shell blocks of the
# documentation, and the comparison with Flink's answers where the suite lies beside the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/hurtig/target}
step() { printf '\n==> %s\n' "$*"; }

if cargo fmt --version >/dev/null 2>&1; then
    step "formatting"
    cargo fmt --all --check
else
    step "formatting: left out, rustfmt is not installed"
fi

step "rules of the code base"
scripts/check-rules.sh

if cargo clippy --version >/dev/null 2>&1; then
    step "lints"
    cargo clippy --quiet --workspace --all-targets -- -D warnings
else
    step "lints: left out, clippy is not installed"
fi

step "unit and integration tests (a first build takes up to 40 minutes on two cores)"
cargo test --workspace --lib --bins --tests

step "driver of the benchmarks"
HURTIG=$CARGO_TARGET_DIR/debug/hurtig python3 -m unittest discover --quiet benches/compare

step "embedding example"
cargo run --quiet --manifest-path examples/embed/Cargo.toml

step "shell blocks of README.md and the quick start"
python3 scripts/run-doc-blocks.py README.md docs/quick-start.md docs/savepoints.md

step "comparison with Flink's answers"
scripts/conformance.sh
