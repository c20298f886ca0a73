#!/usr/bin/env bash
# Compares Hurtig with the recorded answers of Flink, if the suite is found: in $HURTIG_CONFORMANCE, or
# in ../shared/conformance beside the checkout. First every case on an embedded cluster, then the groups
# of aggregates and windows on a cluster of one JobManager and three TaskManagers at parallelism 4.
# Cases that are known to fail stand in tests/conformance/expect-fail.txt; one that begins to pass is
# reported, so that the list stays true. Arguments are handed to the suite's checker.
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

[ $# -eq 0 ] || exit 0
echo "conformance: the same on three TaskManagers at parallelism 4"
folder=$(mktemp -d)
trap '"$hurtig" cluster stop --dir "$folder" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
address=$("$hurtig" cluster start -n 3 --dir "$folder" -D jobmanager.rpc.port=0 -D taskmanager.numberOfTaskSlots=4 --json |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["jobmanager"]["rpc"])')
for group in nexmark window_tvf group_agg; do
    python3 "$suite/check.py" --group "$group" --jobs 2 --expect-fail tests/conformance/expect-fail.txt \
        --engine "$hurtig sql --changelog-json --cluster $address -D parallelism.default=4 --file {file}"
done
