//! `hurtig bench nexmark` gives the results that real Flink gives for the same events, and a wrong plan
//! is noticed.

use std::path::Path;

use serde_json::Value;

use crate::harness::hurtig;

/// What Flink found: `benches/compare/compare.py --check-only --record` writes it.
fn recorded() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/flink/results.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The measurements of `queries` over the events that were recorded.
fn measured(recorded: &Value, queries: &str, more: &[&str]) -> Vec<Value> {
    let mut command = hurtig();
    command.args(["bench", "nexmark", "--json", "--parallelism", "2", "--queries", queries]);
    command.args(["--events", &recorded["events"].to_string(), "--event-rate", &recorded["event_rate"].to_string()]);
    let output = command.args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn result(measurement: &Value) -> (&Value, &Value) {
    (&measurement["net_rows"], &measurement["result_checksum"])
}

#[test]
fn every_query_has_the_result_of_flink() {
    let recorded = recorded();
    let more: [&[&str]; 2] = [&["--checkpoint-interval", "200 ms"], &["--projection"]];
    for more in more {
        for measurement in measured(&recorded, "all", more) {
            let query = measurement["query"].as_str().unwrap();
            let flink = &recorded["results"][query];
            assert_eq!(result(&measurement), (&flink["net_rows"], &flink["checksum"]), "{query} {more:?}");
            let rows_out = measurement["rows_out"].as_i64().unwrap();
            assert!(rows_out >= measurement["net_rows"].as_i64().unwrap(), "{measurement}");
            assert!(measurement["steady_events_per_second"].as_f64().unwrap() > 0.0, "{measurement}");
        }
    }
}

#[test]
fn files_hold_the_events_of_the_generator() {
    let recorded = recorded();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events").display().to_string();
    measured(&recorded, "q0", &["--write-files", &path]);
    for measurement in measured(&recorded, "q2,q12", &["--input", &path]) {
        let flink = &recorded["results"][measurement["query"].as_str().unwrap()];
        assert_eq!(result(&measurement), (&flink["net_rows"], &flink["checksum"]), "{measurement}");
        assert!(measurement["steady_events_per_second"].is_null());
    }
}

#[test]
fn a_wrong_plan_has_another_result() {
    let recorded = recorded();
    let wrong = [
        ("q2", "SELECT auction, price FROM bid WHERE MOD(auction, 124) = 0"),
        // As many rows as the right one.
        ("q1", "SELECT auction, bidder, 0.909 * price, `dateTime`, extra FROM bid"),
        (
            "q12",
            "SELECT bidder, COUNT(*), window_start, window_end FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), \
             INTERVAL '11' SECOND)) GROUP BY bidder, window_start, window_end",
        ),
    ];
    for (query, sql) in wrong {
        let measurement = &measured(&recorded, query, &["--sql", sql])[0];
        assert_ne!(measurement["result_checksum"], recorded["results"][query]["checksum"], "{query}");
    }
}

#[test]
fn statements_are_shown_and_wrong_arguments_refused() {
    let run = |arguments: &[&str]| hurtig().args(["bench", "nexmark"]).args(arguments).output().unwrap();
    let shown = String::from_utf8(run(&["--show", "--queries", "q2", "--input", "/data"]).stdout).unwrap();
    assert_eq!(shown.split("\n;\n").count(), 4, "{shown}");
    assert!(shown.contains("'path' = '/data'") && !shown.contains("scan.split"), "{shown}");
    let refused = run(&["--queries", "q2,q99"]);
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && errors.contains("there is no query 'q99': choose of q0, q1, "), "{errors}");
}

#[test]
fn latency_counts_every_event_behind_the_warm_up() {
    let arguments = ["bench", "latency", "--rate", "2000", "--seconds", "2", "--warmup", "1", "--json"];
    let output = hurtig().args(arguments).args(["--parallelism", "2"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let measured: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(measured.len(), 2);
    // 92 of 100 events are bids; a count is shown at most once for each of them.
    assert_eq!(measured[0]["rows"], 3680);
    let counts = measured[1]["rows"].as_u64().unwrap();
    assert!((1..=3680).contains(&counts), "{counts}");
    for m in &measured {
        let [p50, p99, max] = ["p50_ms", "p99_ms", "max_ms"].map(|f| m[f].as_f64().unwrap());
        assert!(p50 > 0.0 && p50 <= p99 && p99 <= max, "{m}");
    }
}
