//! Work is spread over TaskManagers, keyed rows travel between them, and batches stay whole.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::harness::Cluster;

#[test]
fn every_taskmanager_takes_its_share_of_keyed_rows() {
    let cluster = Cluster::start(3, 2, &[]);
    let id = cluster.insert(
        "SET 'parallelism.default' = '6';
         CREATE TABLE a (n BIGINT, k AS n % 997) WITH ('connector' = 'datagen', 'number-of-rows' = '300000', 'rows-per-second' = '10000000',
           'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '299999');
         CREATE TABLE b (k BIGINT, n BIGINT) WITH ('connector' = 'blackhole');
         CREATE VIEW t AS SELECT k, n FROM a;
         INSERT INTO b SELECT k, MAX(n) FROM t GROUP BY k;",
    );
    let job = cluster.wait_finished(&id);
    let mut rows_in = BTreeMap::<&str, u64>::new();
    // What sources count as read has not been exchanged.
    let vertices = job["vertices"].as_array().unwrap().iter();
    let behind = vertices.filter(|v| !v["name"].as_str().unwrap().starts_with("Source"));
    for subtask in behind.flat_map(|v| v["subtasks"].as_array().unwrap()) {
        *rows_in.entry(subtask["taskmanager"].as_str().unwrap()).or_default() += subtask["rows_in"].as_u64().unwrap();
    }
    let total: u64 = rows_in.values().sum();
    assert_eq!(rows_in.len(), 3, "{rows_in:?}");
    assert!(total > 0);
    for (name, rows) in &rows_in {
        assert!(rows * 100 >= total * 15, "{name} took {rows} of {total} rows: {rows_in:?}");
    }
}

#[test]
fn a_watermark_for_every_row_leaves_batches_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("minutes.csv");
    let start = chrono::DateTime::from_timestamp_millis(1_577_836_800_000).unwrap();
    let mut rows = String::with_capacity(32 << 20);
    for minute in 0..1_000_000 {
        let time = start + chrono::Duration::minutes(minute);
        writeln!(rows, "{minute},{}", time.format("%Y-%m-%d %H:%M:%S")).unwrap();
    }
    std::fs::write(&path, rows).unwrap();
    let cluster = Cluster::start(1, 1, &[]);
    let id = cluster.insert(&format!(
        "CREATE TABLE a (n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
           WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
         CREATE TABLE b (w TIMESTAMP(3), c BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
         INSERT INTO b SELECT window_start, COUNT(*), LAST_VALUE(n)
           FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;",
        path.display(),
        folder.path().join("out").display()
    ));
    let job = cluster.wait_finished(&id);
    let window = &job["vertices"][1];
    assert!(window["name"].as_str().unwrap().starts_with("WindowAggregate"), "{job:#}");
    let figure = |name: &str| window["subtasks"][0][name].as_u64().unwrap();
    assert_eq!(figure("rows_in"), 1_000_000, "{job:#}");
    assert!(figure("batches_in") <= 250, "{} rows in {} batches", figure("rows_in"), figure("batches_in"));
    let windows = crate::harness::lines_below(&folder.path().join("out"));
    assert_eq!(windows.len(), 1_000_000_usize.div_ceil(60));
}
