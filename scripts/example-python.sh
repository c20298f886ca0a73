#!/usr/bin/env bash
# Runs examples/python/keyed_window.py against a cluster of its own: a virtual environment in the cache
# folder, stubs generated from proto/, a JobManager and a TaskManager on free ports, stopped at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hurtig
hurtig=${CARGO_TARGET_DIR:-$cache/target}/debug/hurtig
venv=$cache/python
work=$(mktemp -d)
jobmanager_pid=
taskmanager_pid=
cleanup() {
    [ -z "$taskmanager_pid" ] || kill "$taskmanager_pid" 2>/dev/null || true
    [ -z "$jobmanager_pid" ] || kill "$jobmanager_pid" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

if ! "$venv/bin/python" -c 'import grpc_tools, grpc, pyarrow' 2>/dev/null; then
    echo "example-python: making a virtual environment with grpcio and pyarrow in $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet grpcio grpcio-tools pyarrow
fi
mkdir -p "$work/stubs"
"$venv/bin/python" -m grpc_tools.protoc -Iproto/proto --python_out="$work/stubs" --grpc_python_out="$work/stubs" \
    hurtig/v1/expr.proto hurtig/v1/graph.proto hurtig/v1/job_service.proto

ready() { # file: waits for a process's ready line
    for _ in $(seq 100); do
        grep -q '"ready":true' "$1" 2>/dev/null && return
        sleep 0.1
    done
    echo "example-python: the process did not become ready:" >&2
    cat "$1" >&2
    exit 1
}
"$hurtig" jobmanager -D jobmanager.rpc.port=0 >"$work/jobmanager" 2>"$work/jobmanager.log" &
jobmanager_pid=$!
ready "$work/jobmanager"
address=$(python3 -c 'import json,sys; print(json.loads(next(l for l in open(sys.argv[1]) if "ready" in l))["rpc"])' "$work/jobmanager")
"$hurtig" taskmanager -D jobmanager.rpc.address="${address%:*}" -D jobmanager.rpc.port="${address##*:}" \
    -D taskmanager.numberOfTaskSlots=2 >"$work/taskmanager" 2>"$work/taskmanager.log" &
taskmanager_pid=$!
ready "$work/taskmanager"

PYTHONPATH=$work/stubs "$venv/bin/python" examples/python/keyed_window.py "$address"
