#!/usr/bin/env bash
# Compares Hurtig with the recorded answers of Flink, if the suite is found: in $HURTIG_CONFORMANCE, or
# in ../shared/conformance beside the checkout. Cases that are known to fail stand in
# tests/conformance/expect-fail.txt; one that begins to pass is reported, so that the list stays true.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${HURTIG_CONFORMANCE:-../shared/conformance}
hurtig=${CARGO_TARGET_DIR:-$HOME/.cache/hurtig/target}/debug/hurtig
if [ ! -f "$suite/check.py" ]; then
    echo "conformance: no suite at $suite, left out"
    exit 0
fi
python3 "$suite/check.py" --engine "$hurtig sql --changelog-json --file {file}" --jobs 2 \
    --expect-fail tests/conformance/expect-fail.txt "$@"
