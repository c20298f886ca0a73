//! Results flow while the input is open.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::harness::hurtig;

/// Runs a query over an unbounded source and gives its first `count` changes.
fn first_changes(script: &str, count: usize) -> Vec<serde_json::Value> {
    let mut child = hurtig()
        .args(["sql", "--changelog-json", "-e", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let changes = lines.skip(1).take(count).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    changes
}

const SOURCE: &str =
    "CREATE TABLE a (n BIGINT, k BIGINT, ts AS CAST(CURRENT_TIMESTAMP AS TIMESTAMP(3)), WATERMARK FOR ts AS ts)
    WITH ('connector' = 'datagen', 'rows-per-second' = '1000',
      'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '100000000',
      'fields.k.min' = '1', 'fields.k.max' = '5');";

#[test]
fn an_updating_aggregate_keeps_emitting_over_an_unbounded_source() {
    let changes = first_changes(&format!("{SOURCE} SELECT k, COUNT(*) AS n FROM a GROUP BY k;"), 40);
    assert_eq!(changes.len(), 40);
    assert!(changes.iter().filter(|c| c["op"] == "+U").count() > 10, "{changes:?}");
}

#[test]
fn windows_are_emitted_as_the_watermark_passes() {
    let changes = first_changes(
        &format!(
            "{SOURCE} SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '2' SECOND))
             GROUP BY window_start, window_end;"
        ),
        3,
    );
    assert_eq!(changes.len(), 3);
    assert!(changes.iter().all(|c| c["op"] == "+I"));
}
