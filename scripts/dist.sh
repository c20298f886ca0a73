#!/usr/bin/env bash
# A tarball with the optimised binary, the examples and the documentation. The binary needs glibc and libstdc++, which every
# Debian has.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$HOME/.cache/hurtig/target}
cargo build --release -p hurtig --bin hurtig
version=$("$target/release/hurtig" --version | awk '{print $2}')
name=hurtig-$version-$(uname -m)-linux
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$name/bin"
install -m755 "$target/release/hurtig" "$stage/$name/bin/hurtig"
python3 scripts/third-party-notices.py "$stage/$name/THIRD-PARTY-NOTICES.md"
cp -r LICENSE README.md CHANGELOG.md docs examples "$stage/$name/"
mkdir -p "$stage/$name/proto"
cp -r proto/proto "$stage/$name/proto/"
mkdir -p dist
tar -C "$stage" -czf "dist/$name.tar.gz" "$name"
echo "dist/$name.tar.gz"
