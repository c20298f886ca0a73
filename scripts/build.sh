#!/usr/bin/env bash
# Builds the binary of the development profile, saying beforehand how long it may take.
set -euo pipefail
target=${CARGO_TARGET_DIR:?run this through make}
if [ ! -e "$target/debug/hurtig" ]; then
    echo "build: the first build compiles Arrow, DataFusion and RocksDB: about 25 minutes on two cores."
    echo "build: later builds take seconds. Everything goes into $target."
fi
exec cargo build -p hurtig --bin hurtig
