"""The results as Markdown, JSON and a chart."""

import json
import math
import statistics

TITLES = {
    "columns": "All columns generated",
    "projection": "Only the columns that a query reads",
    "files": "The same JSON files",
}
CHECKPOINTS = 5
RATES = {"whole": "events_per_second", "steady": "steady_events_per_second"}


def write(results, folder):
    """Writes the three files and gives their paths."""
    for table in results["tables"].values():
        for entry in table:
            entry["summary"] = summarise(entry)
    paths = [folder / name for name in ("results.json", "results.md", "results.svg")]
    texts = [json.dumps(results, indent=1), markdown(results), chart(results)]
    for path, text in zip(paths, texts):
        path.write_text(text)
    return paths


def mean(rounds, engine, what):
    values = [r[engine][what] for r in rounds if r[engine][what] is not None]
    return statistics.fmean(values) if values else None


def summarise(entry):
    rounds = entry["rounds"]
    if entry["check"] != "equal":
        verdict = "" if entry["check"].startswith("failed") else "wrong: "
        return {"counts": False, "why": verdict + entry["check"].splitlines()[0]}
    if not rounds:
        return {"counts": False, "why": "not measured"}
    summary = {"why": ""}
    for engine in ("flink", "hurtig"):
        summary[engine] = {
            what: mean(rounds, engine, what)
            for what in (*RATES.values(), "cpu_seconds", "cpu_job_seconds", "memory_bytes", "checkpoint_bytes", "rows_out")
        }
        summary[engine]["checkpoints"] = min(r[engine]["checkpoints"] for r in rounds)
        rates = [r[engine]["events_per_second"] for r in rounds]
        summary[engine]["spread"] = max(rates) / min(rates) - 1
    for name, what in RATES.items():
        ours, theirs = summary["hurtig"][what], summary["flink"][what]
        summary[f"ratio_{name}"] = ours / theirs if ours and theirs else None
    few = [e for e in ("flink", "hurtig") if summary[e]["checkpoints"] < CHECKPOINTS]
    apart = [e for e in ("flink", "hurtig") if not all(r[e]["clocks_agree"] for r in rounds)]
    if few:
        summary["why"] = f"fewer than {CHECKPOINTS} checkpoints ({', '.join(few)})"
    elif apart:
        summary["why"] = f"outside and reported time differ ({', '.join(apart)})"
    summary["counts"] = not summary["why"]
    return summary


def counted(table, which):
    """Ratios that count, of queries."""
    ratios = [e["summary"].get(f"ratio_{which}") for e in table if e["query"] != "source" and e["summary"]["counts"]]
    return [r for r in ratios if r]


def geometric(ratios):
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None


def thousands(rate):
    return "-" if rate is None else f"{rate / 1000:,.0f}"


def times(ratio):
    return "-" if ratio is None else f"{ratio:.1f}"


def megabytes(size):
    return "-" if size is None else f"{size / 1e6:,.1f}" if size < 1e7 else f"{size / 1e6:,.0f}"


def description(about):
    m, s = about["machine"], about["settings"]
    return [
        f"{m['cores']} cores of {m['processor']}, {m['memory']}, {m['system']}; calibration loop {m['calibration_seconds']} s, "
        f"load before {m['load_before']:.1f}",
        f"{about['hurtig']} ({about['hurtig_build']} build) and {about['flink']}, parallelism {about['parallelism']}, "
        f"{about['event_rate']:,} events a second of event time",
        f"Flink: JobManager {about['jobmanager_memory']}, TaskManager {about['taskmanager_memory']}, "
        + ", ".join(f"{k}={v}" for k, v in s.items()),
    ]


def markdown(results):
    lines = ["# Hurtig beside Flink", ""]
    lines += [f"- {line}" for line in description(results["about"])]
    lines += ["", "Rates in thousand events a second; ratios are Hurtig's rate over Flink's. *Whole*: the job with its start and "
              "warm-up; *steady*: the second half of the events.", ""]
    for mode, table in results["tables"].items():
        lines += [f"## {TITLES[mode]}", "", *rates_table(table), ""]
        lines += summary_lines(table)
        lines += ["", *resources_table(table, results["memory"] if mode == "columns" else {}), ""]
    return "\n".join(lines)


def rates_table(table):
    lines = [
        "| query | events | interval | Flink whole | Hurtig whole | ratio | Flink steady | Hurtig steady | ratio | remarks |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --- |",
    ]
    for entry in table:
        s = entry["summary"]
        if "flink" not in s:
            lines.append(f"| {entry['query']} | | | | | | | | | **{s['why']}** |")
            continue
        f, h = s["flink"], s["hurtig"]
        remarks = [*entry["changed"], *([f"does not count: {s['why']}"] if s["why"] else [])]
        for engine in ("flink", "hurtig"):
            if s[engine]["spread"] > 0.15:
                remarks.append(f"{engine}'s rounds differ by {s[engine]['spread']:.0%}")
        lines.append(
            f"| {entry['query']} | {entry['events']:,} | {entry['interval_ms']} ms "
            f"| {thousands(f['events_per_second'])} | {thousands(h['events_per_second'])} | {times(s['ratio_whole'])} "
            f"| {thousands(f['steady_events_per_second'])} | {thousands(h['steady_events_per_second'])} "
            f"| {times(s['ratio_steady'])} | {'; '.join(remarks)} |"
        )
    return lines


def summary_lines(table):
    lines = []
    whole, steady = counted(table, "whole"), counted(table, "steady")
    if whole:
        lines.append(
            f"Geometric mean over {len(whole)} queries: {times(geometric(whole))} whole, {times(geometric(steady))} steady; "
            f"smallest {times(min(whole))} whole, {times(min(steady, default=None))} steady."
        )
    source = next((e["summary"] for e in table if e["query"] == "source" and "flink" in e["summary"]), None)
    queries = [e["summary"]["flink"] for e in table if e["query"] != "source" and "flink" in e["summary"]]
    if source and queries:
        ratios = []
        for name, what in RATES.items():
            rates = [q[what] for q in queries if q[what]]
            if rates and source["flink"][what]:
                ratios.append(f"{source['flink'][what] / max(rates):.1f} times Flink's fastest query ({name})")
        if ratios:
            lines.append(f"The Java generator alone reaches {', '.join(ratios)}.")
    return lines


def resources_table(table, memory):
    lines = [
        "| query | CPU s Flink | Hurtig | of the job Flink | Hurtig | peak MB Flink | Hurtig | checkpoints Flink | Hurtig "
        "| their MB Flink | Hurtig | rows out Flink | Hurtig | Flink's smallest TaskManager |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |",
    ]
    for entry in table:
        s = entry["summary"]
        if "flink" not in s:
            continue
        cells = [entry["query"]]
        for what, shown in (
            ("cpu_seconds", lambda v: f"{v:.1f}"),
            ("cpu_job_seconds", lambda v: f"{v:.1f}"),
            ("memory_bytes", megabytes),
            ("checkpoints", str),
            ("checkpoint_bytes", megabytes),
            ("rows_out", lambda v: f"{v:,.0f}"),
        ):
            cells += [shown(s["flink"][what]), shown(s["hurtig"][what])]
        small = memory.get(entry["query"])
        cells.append(f"{small['taskmanager_mb']} MB, peak {megabytes(small['memory_bytes'])} MB" if small else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


# --- the chart

WIDTH, LEFT, RIGHT, ROW, TOP = 900, 90, 140, 34, 92
WHOLE, STEADY, INK, FAINT = "#2b6cb0", "#90b8e0", "#1a202c", "#d6dce4"


def chart(results):
    """A bar for each ratio, on a logarithmic axis, since 2 and 1/2 are equally far from 1."""
    mode, table = next(iter(results["tables"].items()), ("columns", []))
    ratios = [e["summary"].get(f"ratio_{w}") for e in table for w in RATES]
    known = [r for r in ratios if r] or [1.0]
    low, high = min(1.0, *known) / 1.15, max(2.0, *known) * 1.15
    plot = WIDTH - LEFT - RIGHT
    at = lambda ratio: LEFT + plot * math.log(ratio / low) / math.log(high / low)
    bottom = TOP + ROW * len(table)
    notes = [part for line in description(results["about"]) for part in wrapped(line, 125)]
    height = bottom + 44 + 15 * len(notes) + 10
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="20" y="32" font-size="20" font-weight="bold">Nexmark: Hurtig\'s rate over Flink\'s</text>',
        f'<text x="20" y="54" font-size="13">{escape(TITLES[mode])}; more than 1 is faster than Flink; logarithmic</text>',
        *legend(),
    ]
    for tick in (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100):
        if low <= tick <= high:
            colour, thick = (INK, 1.5) if tick == 1 else (FAINT, 1)
            out.append(f'<line x1="{at(tick):.1f}" y1="{TOP - 4}" x2="{at(tick):.1f}" y2="{bottom}" stroke="{colour}" stroke-width="{thick}"/>')
            out.append(f'<text x="{at(tick):.1f}" y="{bottom + 18}" font-size="12" text-anchor="middle">{tick}x</text>')
    for row, entry in enumerate(table):
        y = TOP + ROW * row
        summary = entry["summary"]
        out.append(f'<text x="{LEFT - 10}" y="{y + 20}" font-size="13" text-anchor="end">{escape(entry["query"])}</text>')
        if not summary.get("ratio_whole"):
            why = summary["why"][:90]
            out.append(f'<text x="{at(1) + 8:.1f}" y="{y + 20}" font-size="12" fill="#c53030">{escape(why)}</text>')
            continue
        for offset, which, colour in ((4, "whole", WHOLE), (17, "steady", STEADY)):
            ratio = summary.get(f"ratio_{which}")
            if not ratio:
                continue
            left, right = sorted((at(1), at(ratio)))
            opacity = "" if summary["counts"] else ' fill-opacity="0.35"'
            out.append(f'<rect x="{left:.1f}" y="{y + offset}" width="{right - left:.1f}" height="11" fill="{colour}"{opacity}/>')
            out.append(f'<text x="{right + 6:.1f}" y="{y + offset + 10}" font-size="11">{ratio:.1f}{"" if summary["counts"] else " (does not count)"}</text>')
    for i, note in enumerate(notes):
        out.append(f'<text x="20" y="{bottom + 44 + 15 * i}" font-size="11" fill="#4a5568">{escape(note)}</text>')
    return "\n".join([*out, "</svg>", ""])


def legend():
    items = []
    for x, colour, text in ((20, WHOLE, "whole job, with start and warm-up"), (260, STEADY, "steady: second half of the events")):
        items.append(f'<rect x="{x}" y="66" width="14" height="11" fill="{colour}"/>')
        items.append(f'<text x="{x + 20}" y="76" font-size="12">{text}</text>')
    return items


def wrapped(text, width):
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
