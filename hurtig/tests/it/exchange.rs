//! Work is spread over TaskManagers, and keyed rows travel between them.

use std::collections::BTreeMap;

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
