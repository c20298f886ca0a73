#!/usr/bin/env bash
# Makes sure that the build's needs are there: a Rust toolchain, a C++ compiler and libclang (both for
# RocksDB), and for root what tests in network namespaces need. Installs missing system packages by apt
# when it may, and otherwise says what is missing.
set -euo pipefail

missing_packages=()
need() { # package, test command...
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing_packages+=("$package")
}
libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || ldconfig -p | grep -q 'libclang\(-[0-9.]*\)\?\.so' ||
        compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' || compgen -G '/usr/lib/*/libclang*.so*'
}

if ! command -v cargo >/dev/null; then
    echo "setup: cargo is missing. Install a Rust toolchain (1.95 or later), for example from https://rustup.rs" >&2
    exit 1
fi
need g++ command -v c++
need make command -v make
need libclang-dev libclang
need python3 command -v python3
# Tests cut links between processes in network namespaces, which only root can make.
if [ "$(id -u)" = 0 ]; then
    need iproute2 command -v ip
fi

if [ ${#missing_packages[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing ${missing_packages[*]} with apt-get"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${missing_packages[@]}" >/dev/null
    else
        echo "setup: these packages are missing: ${missing_packages[*]}" >&2
        echo "setup: install them as root (on Debian: apt-get install ${missing_packages[*]}), then try again" >&2
        exit 1
    fi
fi
