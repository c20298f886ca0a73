#!/usr/bin/env bash
# Rules that no compiler checks.
set -euo pipefail
cd "$(dirname "$0")/.."
fail=0
complain() {
    echo "check-rules: $1" >&2
    fail=1
}

# Queries run on our own operators: DataFusion gives expressions only, never an execution plan.
if grep -nE '^datafusion(-physical-plan|-execution|-datasource|-catalog|-session)? *=' Cargo.toml ./*/Cargo.toml; then
    complain "only datafusion-common, datafusion-expr and datafusion-physical-expr may be used"
fi
if grep -rnE '\bExecutionPlan\b' --include='*.rs' . | grep -vE '^\S+:[0-9]+:\s*//'; then
    complain "no DataFusion ExecutionPlan may run for a query"
fi

# The whole arrow family, object_store, prost and tonic in one version each.
for crate in arrow-array arrow-schema parquet object_store prost tonic hyper rocksdb; do
    count=$(grep -c "^name = \"$crate\"$" Cargo.lock || true)
    [ "$count" -le 1 ] || complain "$crate is in Cargo.lock in $count versions"
done

if grep -rnE 'todo!\(|unimplemented!\(|#\[ignore' --include='*.rs' --exclude-dir=target .; then
    complain "no unfinished code and no muted tests"
fi
# What the documentation points to exists.
for page in README.md docs/*.md; do
    folder=$(dirname "$page")
    for link in $(grep -oE '\]\([^)#:]+\)' "$page" | sed 's/^](//; s/)$//'); do
        [ -e "$folder/$link" ] || complain "$page links to $link, which does not exist"
    done
done
for path in $(grep -ohE '`(proto|graph|state|engine|connectors|sql|scheduler|hurtig|scripts|examples)/[A-Za-z0-9_./-]+`' README.md docs/*.md | tr -d '`'); do
    [ -e "$path" ] || complain "the documentation names $path, which does not exist"
done
for page in $(grep -rhoE 'docs/[a-z-]+\.md' --include='*.rs' . | sort -u); do
    [ -e "$page" ] || complain "a message or comment names $page, which does not exist"
done
exit $fail
