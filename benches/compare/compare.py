#!/usr/bin/env python3
"""Hurtig beside real Flink: the same Nexmark statements, in turn, each time in fresh processes.

First both engines run a small number of events and their results are compared: a query whose results
differ is reported as wrong and not timed. Then they run A B A B. What is measured, and how to read it, is in
docs/benchmarks.md. `make bench-compare` is the usual way in.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import pathlib
import shutil
import signal
import sys
import tempfile

import flink
import hurtig
import machine
import report

# Nexmark queries, and the generator alone.
QUERIES = "source,q0,q1,q2,q10,q12,q14,q15,q16,q17,q21,q22"
MODES = ("columns", "projection", "files")
CHECKPOINTS = 5
# Of the runs whose results are compared.
CHECK_EVENT_RATE = 2_500
# Outside and reported time may differ by this much.
CLOCKS = 0.05
SETTINGS = {
    "state.backend.type": "rocksdb",
    "execution.checkpointing.incremental": "true",
    "execution.checkpointing.mode": "EXACTLY_ONCE",
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "2 s",
    "table.exec.mini-batch.size": "50000",
    "table.optimizer.distinct-agg.split.enabled": "true",
    "pipeline.object-reuse": "true",
    "table.local-time-zone": "UTC",
}
# Sizes of the TaskManager's process that the search for the smallest tries, in MB.
MEMORY_SIZES = (768, 832, 896, 1024, 1152, 1408, 1728, 2048, 3072)


@dataclasses.dataclass
class Run:
    """What one engine is asked to run."""

    query: str
    mode: str
    events: int
    event_rate: int
    parallelism: int
    interval_ms: int
    settings: dict
    timeout: float
    files: str = ""
    hurtig_sql: str = ""
    statements: str = ""


def main():
    args = arguments()
    compare = Compare(args)
    compare.check_events()
    for mode, query in itertools.product(args.tables, args.queries):
        compare.query(mode, query)
    if args.record:
        compare.record()
    if args.check_only:
        wrong = [name for name, entry in compare.entries() if entry["check"] != "equal"]
        print("results differ: " + ", ".join(wrong) if wrong else "all results are equal")
        sys.exit(1 if wrong else 0)
    if args.memory:
        for query in args.queries:
            compare.smallest_memory(query)
    compare.write_report()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = lambda text: [w for w in text.replace(",", " ").split() if w]
    parser.add_argument("--hurtig", required=True, help="the binary")
    parser.add_argument("--queries", type=words, default=words(QUERIES))
    parser.add_argument("--tables", type=words, default=list(MODES), help="columns, projection, files")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--max-events", type=int, help="until five checkpoints fit; four times --events unless set")
    parser.add_argument("--file-events", type=int, default=2_000_000, help="events in the JSON files")
    parser.add_argument("--event-rate", type=int, default=250_000, help="events a second of event time")
    parser.add_argument("--parallelism", type=int, default=2)
    parser.add_argument("--interval-ms", type=int, default=1000, help="between checkpoints")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--check-events", type=int, default=50_000)
    parser.add_argument("--check-only", action="store_true", help="compare results, measure nothing")
    parser.add_argument("--record", action="store_true", help="write Flink's results of the check into benches/flink")
    parser.add_argument("--memory", action="store_true", help="search Flink's smallest memory too (long)")
    parser.add_argument("--taskmanager-memory", default="4g", help="Flink's taskmanager.memory.process.size")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one run")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--hurtig-sql", action="append", default=[], metavar="QUERY=SELECT",
                        help="let Hurtig run another text for a query, to see that the comparison notices")
    parser.add_argument("--out", type=pathlib.Path, default=flink.HERE.parent / "results")
    args = parser.parse_args()
    if unknown := set(args.tables) - set(MODES):
        parser.error(f"--tables: choose of {', '.join(MODES)}, not {', '.join(sorted(unknown))}")
    args.max_events = args.max_events or 4 * args.events
    args.hurtig_sql = dict(text.split("=", 1) for text in args.hurtig_sql)
    return args


class Compare:
    def __init__(self, args):
        self.args = args
        self.hurtig = hurtig.Hurtig(args.hurtig)
        self.flink = flink.Flink(args.taskmanager_memory)
        args.out.mkdir(parents=True, exist_ok=True)
        self.about = {
            "machine": machine.describe(),
            "hurtig": self.hurtig.describe(),
            "hurtig_build": "release" if self.hurtig.is_optimised() else "development",
            "hurtig_sha256": flink.sha256(self.hurtig.binary),
            "flink": self.flink.describe(),
            "flink_program": self.flink.classes.name,
            "settings": SETTINGS,
            "parallelism": args.parallelism,
            "event_rate": args.event_rate,
            "taskmanager_memory": args.taskmanager_memory,
            "jobmanager_memory": self.flink.jobmanager_memory,
        }
        # What is measured belongs to these programs and settings: others begin anew.
        asked = {k: v for k, v in self.about.items() if k != "machine"}
        asked |= {k: getattr(args, k) for k in ("events", "max_events", "file_events", "interval_ms", "rounds", "hurtig_sql")}
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
        self.state_file = args.out / f"state-{key}.json"
        self.state = {"queries": {}, "memory": {}}
        if self.state_file.exists() and not args.fresh:
            self.state = json.loads(self.state_file.read_text())
            say(f"going on with {self.state_file.name}: FRESH=1 begins anew")

    def save(self):
        draft = self.state_file.with_suffix(".draft")
        draft.write_text(json.dumps(self.state, indent=1))
        draft.replace(self.state_file)

    def entries(self):
        names = [f"{mode}/{query}" for mode, query in itertools.product(self.args.tables, self.args.queries)]
        return [(name, self.state["queries"][name]) for name in names if name in self.state["queries"]]

    # --- what is run

    def make_run(self, mode, query, events, interval_ms, event_rate=None):
        args = self.args
        rate = event_rate or args.event_rate
        files = str(self.files(events, rate)) if mode == "files" else ""
        run = Run(query, mode, events, rate, args.parallelism, interval_ms, SETTINGS, args.timeout, files)
        run.hurtig_sql = args.hurtig_sql.get(query, "")
        run.statements = self.hurtig.statements(run)
        return run

    def files(self, events, rate):
        """The events as JSON files, written by Hurtig and read by both."""
        parallelism = self.args.parallelism
        folder = flink.cache().parent / "bench-files" / f"{events}-{rate}-{parallelism}"
        if not folder.exists():
            say(f"writing {events:,} events as JSON files into {folder}")
            draft = folder.with_suffix(".draft")
            shutil.rmtree(draft, ignore_errors=True)
            self.hurtig.write_files(draft, events, rate, parallelism)
            draft.rename(folder)
        return folder

    def execute(self, engine, run):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            result = engine.run(run, pathlib.Path(folder))
        result |= {"events": run.events, "interval_ms": run.interval_ms}
        result["events_per_second"] = run.events / result["seconds"]
        half = result["second_half_seconds"]
        result["steady_events_per_second"] = (run.events - run.events // 2) / half if half else None
        result["clocks_agree"] = abs(result["wall_seconds"] - result["seconds"]) <= CLOCKS * result["seconds"]
        say(
            f"  {engine.name:<6} {run.events:>12,} events in {result['seconds']:7.2f} s: "
            f"{result['events_per_second']:>12,.0f}/s whole, {result['steady_events_per_second'] or 0:>12,.0f}/s steady, "
            f"{result['cpu_seconds']:6.1f} CPU s, {result['memory_bytes'] >> 20:5} MB, {result['checkpoints']} checkpoints"
        )
        return result

    # --- correctness

    def check_events(self):
        """Both generators must make the same events, field for field."""
        if self.state.get("events_checked"):
            return
        events, rate = 100_000, self.args.event_rate
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            folder = pathlib.Path(folder)
            self.hurtig.write_files(folder / "hurtig", events, rate, 1)
            with open(folder / "flink.json", "w") as out:
                self.flink.print_events(events, rate, out)
            ours = itertools.chain.from_iterable(open(p) for p in sorted((folder / "hurtig").glob("*.json")))
            compared = 0
            for number, (a, b) in enumerate(itertools.zip_longest(ours, open(folder / "flink.json"))):
                difference = first_difference(json.loads(a or "null"), json.loads(b or "null"))
                if difference:
                    raise SystemExit(f"bench: the generators differ at event {number}, {difference}")
                compared += 1
        if compared != events:
            raise SystemExit(f"bench: {compared} events were compared, not {events}")
        say(f"the generators make the same events: {events:,} compared field by field")
        self.state["events_checked"] = events
        self.save()

    def check(self, mode, query):
        """Whether both engines have the same result for few events, and Flink's."""
        # Slow event time, so that windows end while the job runs.
        run = self.make_run(mode, query, self.args.check_events, self.args.interval_ms, CHECK_EVENT_RATE)
        try:
            results = {engine.name: self.execute(engine, run) for engine in (self.flink, self.hurtig)}
        except RuntimeError as error:
            return f"failed: {error}", None
        flinks = {what: results["flink"][what] for what in ("net_rows", "checksum")}
        return difference_of_results(results["flink"], results["hurtig"]), flinks

    # --- speed

    def query(self, mode, query):
        entry = self.state["queries"].setdefault(f"{mode}/{query}", {"check": None, "rounds": []})
        # What failed may have failed for a reason outside, and is tried again.
        if entry["check"] is None or entry["check"].startswith("failed"):
            say(f"{mode} {query}: comparing results")
            entry["check"], entry["checked"] = self.check(mode, query)
            self.save()
            if entry["check"] != "equal":
                say(f"{mode} {query}: NOT EQUAL: {entry['check']}")
        if self.args.check_only or entry["check"] != "equal":
            return
        if "events" not in entry:
            say(f"{mode} {query}: looking for a run of {CHECKPOINTS} checkpoints")
            entry |= self.settle(mode, query)
            self.save()
        run = self.make_run(mode, query, entry["events"], entry["interval_ms"])
        while len(entry["rounds"]) < self.args.rounds:
            say(f"{mode} {query}: round {len(entry['rounds']) + 1} of {self.args.rounds}")
            try:
                results = {engine.name: self.execute(engine, run) for engine in (self.flink, self.hurtig)}
            except RuntimeError as error:
                entry["check"] = f"failed: {error}"
                self.save()
                return
            entry["check"] = difference_of_results(results["flink"], results["hurtig"])
            if entry["check"] != "equal":
                say(f"{mode} {query}: WRONG: {entry['check']}")
                self.save()
                return
            entry["rounds"].append(results)
            self.save()

    def settle(self, mode, query):
        """How many events at which interval give the faster engine its checkpoints: more events first, then
        a shorter interval, on both sides."""
        args = self.args
        events = args.file_events if mode == "files" else args.events
        most = events if mode == "files" else args.max_events
        interval, changed = args.interval_ms, []
        while True:
            found = self.execute(self.hurtig, self.make_run(mode, query, events, interval))
            # One more than needed, since no two runs are the same.
            lacking = (CHECKPOINTS + 1.2) / max(found["checkpoints"], 0.8)
            if found["checkpoints"] > CHECKPOINTS:
                break
            if events < most:
                events = min(most, -(-int(events * lacking) // 1_000_000) * 1_000_000)
                changed.append(f"events raised to {events:,}")
            elif interval > 100:
                fitting = int(found["seconds"] * 1000 / (CHECKPOINTS + 1.5))
                interval = max(100, min(fitting, int(interval * 0.8)) // 10 * 10)
                changed.append(f"interval lowered to {interval} ms")
            else:
                changed.append("no interval gives enough checkpoints")
                break
        return {"events": events, "interval_ms": interval, "changed": changed}

    def smallest_memory(self, query):
        """The smallest TaskManager on which Flink keeps 90 % of its best rate."""
        entry = self.state["queries"].get(f"columns/{query}")
        if not entry or not entry["rounds"] or query in self.state["memory"]:
            return
        run = self.make_run("columns", query, entry["events"], entry["interval_ms"])
        best = max(r["flink"]["events_per_second"] for r in entry["rounds"])
        smallest, low, high = None, 0, len(MEMORY_SIZES)
        while low < high:
            middle = (low + high) // 2
            size = MEMORY_SIZES[middle]
            say(f"memory of {query}: Flink with {size} MB")
            try:
                result = self.execute(flink.Flink(f"{size}m"), run)
            except RuntimeError as error:
                say(f"  does not run: {str(error).splitlines()[0]}")
                result = {"events_per_second": 0}
            if result["events_per_second"] < 0.9 * best:
                low = middle + 1
            else:
                high = middle
                smallest = {"taskmanager_mb": size, "memory_bytes": result["memory_bytes"]}
        self.state["memory"][query] = smallest
        self.save()

    def record(self):
        """Keeps what Flink found, for tests that have no Flink."""
        results = {
            name.split("/")[1]: entry["checked"] for name, entry in self.entries() if name.startswith("columns/")
        }
        recorded = {"flink": flink.VERSION, "events": self.args.check_events, "event_rate": CHECK_EVENT_RATE}
        path = flink.JAVA_SOURCES / "results.json"
        path.write_text(json.dumps({**recorded, "results": results}, indent=2) + "\n")
        say(f"wrote {path}")

    def write_report(self):
        results = {
            "about": self.about,
            "tables": {
                mode: [{"query": name.split("/")[1], **entry} for name, entry in self.entries() if name.startswith(mode)]
                for mode in self.args.tables
            },
            "memory": self.state["memory"],
        }
        for path in report.write(results, self.args.out):
            print(path)


def difference_of_results(theirs, ours):
    """'equal', or what differs."""
    differences = [
        f"{what}: Flink {theirs[what]}, Hurtig {ours[what]}"
        for what in ("net_rows", "checksum")
        if theirs[what] != ours[what]
    ]
    return "; ".join(differences) or "equal"


def first_difference(ours, theirs, path="event"):
    """Where two events differ, or None."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if list(ours) != list(theirs):
            return f"{path}: fields {list(ours)} and {list(theirs)}"
        found = (first_difference(ours[name], theirs[name], f"{path}.{name}") for name in ours)
        return next((f for f in found if f), None)
    if path.endswith((".dateTime", ".expires")) and isinstance(ours, str) and isinstance(theirs, str):
        # One engine writes trailing zeros of a fraction, the other does not.
        ours, theirs = (t.rstrip("0").rstrip(".") if "." in t else t for t in (ours, theirs))
    return None if ours == theirs else f"{path}: Hurtig {ours!r}, Java {theirs!r}"


def say(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # As an interrupt: engines that run are ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("bench: interrupted; what was measured is kept")
