#!/usr/bin/env python3
"""Writes the third-party notices: every crate that the binary is built from, with version, licence and
source, as `cargo metadata` tells. Usage: third-party-notices.py OUTPUT"""

import json
import subprocess
import sys


def normal_dependencies(metadata: dict) -> set:
    """Ids of all packages that the workspace's binary links, build and test tools left out."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    pending = [p["id"] for p in metadata["packages"] if p["name"] == "hurtig" and p["source"] is None]
    seen = set(pending)
    while pending:
        for dependency in nodes[pending.pop()]["deps"]:
            linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if linked and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                pending.append(dependency["pkg"])
    return seen


def main() -> None:
    output = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"],
        check=True, stdout=subprocess.PIPE,
    ).stdout
    metadata = json.loads(output)
    linked = normal_dependencies(metadata)
    lines = ["# Third-party notices", "", "Hurtig is built from these crates, under their own licences.", "",
             "| crate | version | licence | source |", "| --- | --- | --- | --- |"]
    for package in sorted(metadata["packages"], key=lambda p: (p["name"], p["version"])):
        if package["id"] in linked and package["source"] is not None:
            licence = package["license"] or package["license_file"] or "see source"
            lines.append(f"| {package['name']} | {package['version']} | {licence} | {package['repository'] or ''} |")
    lines += ["", "RocksDB, which the crate librocksdb-sys builds, is used under the Apache License 2.0.", ""]
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write("\n".join(lines))


if __name__ == "__main__":
    main()
