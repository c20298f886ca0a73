"""Hurtig: runs a query with `hurtig bench nexmark`, in a fresh process."""

import json
import os
import pathlib
import subprocess

import process


class Hurtig:
    name = "hurtig"

    def __init__(self, binary):
        self.binary = pathlib.Path(binary)
        if not self.binary.is_file():
            raise SystemExit(f"bench: {binary} does not exist: build it with 'make build-release', or set HURTIG=path")

    def describe(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def is_optimised(self):
        """Whether this is a release build: a development build says so itself."""
        arguments = ["bench", "nexmark", "--queries", "q2", "--events", "1"]
        told = subprocess.run([self.binary, *arguments], capture_output=True, text=True, check=True)
        return "development build" not in told.stderr

    def arguments(self, run):
        arguments = [f"--queries={run.query}", f"--events={run.events}", f"--event-rate={run.event_rate}"]
        arguments += [f"--parallelism={run.parallelism}"]
        if run.mode == "projection":
            arguments.append("--projection")
        if run.mode == "files":
            arguments.append(f"--input={run.files}")
        return arguments

    def statements(self, run):
        """The statements of the run, which every engine is given."""
        command = [self.binary, "bench", "nexmark", "--show", *self.arguments(run)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip("\n")

    def write_files(self, folder, events, rate, parallelism):
        command = [self.binary, "bench", "nexmark", f"--write-files={folder}", f"--events={events}"]
        command += [f"--event-rate={rate}", f"--parallelism={parallelism}"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    def run(self, run, folder):
        """One run in a fresh process; `folder` is empty and for this run alone."""
        command = [str(self.binary), "bench", "nexmark", "--json", *self.arguments(run)]
        command += [f"--checkpoint-interval={run.interval_ms} ms"]
        for key, value in run.settings.items():
            command += ["-D", f"{key}={value}"]
        if run.hurtig_sql:
            command += ["--sql", run.hurtig_sql]
        with process.Group({**os.environ, "TMPDIR": str(folder)}) as group:
            started = group.clock()
            bench = group.start(command)
            try:
                begin = bench.wait_for("started", run.timeout)
                cpu = group.cpu_seconds()
                end = bench.wait_for("finished", run.timeout)
                cpu = group.cpu_seconds() - cpu
            except process.Ended as error:
                raise RuntimeError(f"Hurtig did not finish {run.query}: {error}") from None
            usage = group.wait()
            ended = group.clock()
            if bench.popen.returncode != 0:
                raise RuntimeError(f"Hurtig failed at {run.query}:\n{''.join(bench.errors)}")
        told = json.loads("".join(bench.output))[0]
        return {
            "seconds": told["seconds"],
            "wall_seconds": end.time - begin.time,
            "process_seconds": ended - started,
            "second_half_seconds": told["second_half_seconds"],
            "cpu_seconds": usage.cpu_seconds,
            "cpu_job_seconds": cpu,
            "memory_bytes": usage.memory_bytes,
            "memory_by_process": usage.by_process,
            "checkpoints": told["checkpoints"],
            "checkpoint_bytes": told["checkpoint_bytes"],
            "rows_out": told["rows_out"],
            "net_rows": told["net_rows"],
            "checksum": told["result_checksum"],
        }
