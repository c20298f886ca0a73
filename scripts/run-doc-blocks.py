#!/usr/bin/env python3
"""Runs the shell blocks of Markdown files, so that the documentation stays true.

Every ```sh block is run, in order, in one temporary folder a file, by one bash with `set -e`. Blocks
marked ```sh no-run are left out: commands that build the project or need what is not there. `hurtig`
is on the PATH. A failing command shows its block and fails the run.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

BLOCK = re.compile(r"^```sh( no-run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIMEOUT_SECONDS = 300


def run_file(path: str, root: str, binary_folder: str) -> bool:
    with open(path, encoding="utf-8") as file:
        blocks = [code for skipped, code in BLOCK.findall(file.read()) if not skipped]
    if not blocks:
        print(f"{path}: no shell block to run")
        return True
    folder = tempfile.mkdtemp(prefix="hurtig-docs-")
    environment = dict(os.environ, PATH=f"{binary_folder}:{os.environ['PATH']}", HURTIG_HOME=root)
    script = "set -euo pipefail\ntrap 'hurtig cluster stop --dir cluster >/dev/null 2>&1 || true' EXIT\n" + "\n".join(blocks)
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environment, timeout=TIMEOUT_SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode != 0:
        print(f"{path}: a shell block failed with status {done.returncode}\n{done.stdout}")
        return False
    print(f"{path}: {len(blocks)} shell blocks ran")
    return True


def main() -> int:
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
    target = os.environ.get("CARGO_TARGET_DIR", os.path.expanduser("~/.cache/hurtig/target"))
    results = [run_file(path, root, os.path.join(target, "debug")) for path in sys.argv[1:]]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
