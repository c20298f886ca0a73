//! Four forward-only pipelines are four regions: a lost TaskManager restarts only those that had tasks
//! on it, and a TaskManager that comes back with its folder restores without reading state remotely.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Cluster, subtasks};

const SCRIPT: &str = "
    SET 'parallelism.default' = '4';
    CREATE TABLE a (n BIGINT, k BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '2000',
      'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '100000000',
      'fields.k.min' = '1', 'fields.k.max' = '100');
    CREATE TABLE b (n BIGINT, k BIGINT) WITH ('connector' = 'blackhole');
    INSERT INTO b SELECT n, k FROM a WHERE n >= 0;";

fn attempts(job: &Value) -> BTreeMap<(String, u64), u64> {
    let mut all = BTreeMap::new();
    for vertex in job["vertices"].as_array().unwrap() {
        for subtask in vertex["subtasks"].as_array().unwrap() {
            let key = (vertex["id"].as_str().unwrap().to_owned(), subtask["subtask"].as_u64().unwrap());
            all.insert(key, subtask["attempt"].as_u64().unwrap());
        }
    }
    all
}

#[test]
fn only_the_regions_on_the_lost_taskmanager_restart() {
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("execution.checkpointing.dir={}", folder.path().display());
    let mut cluster = Cluster::start(
        4,
        1,
        &[
            "execution.checkpointing.interval=500 ms",
            "execution.state-recovery.from-local=true",
            "restart-strategy.exponential-delay.initial-backoff=10 ms",
            &directory,
        ],
    );
    let id = cluster.insert(SCRIPT);
    cluster.wait_running(&id);
    let before = cluster.wait_for(&id, "a checkpoint completes", |job| job["last_checkpoint"].as_u64().unwrap() > 0);
    let regions: std::collections::BTreeSet<u64> = subtasks(&before).map(|s| s["region"].as_u64().unwrap()).collect();
    assert_eq!(regions.len(), 4);

    cluster.kill_taskmanager(2);
    cluster.restart_taskmanager(2);
    let after = cluster.wait_for(&id, "the job runs again", |job| {
        job["restarts"].as_u64().unwrap() > 0
            && job["state"] == "RUNNING"
            && subtasks(job).all(|s| s["state"] == "RUNNING")
    });
    let lost = |s: &Value| s["taskmanager"] == "tm-2";
    let (old, new) = (attempts(&before), attempts(&after));
    for (vertex, subtask) in before["vertices"].as_array().unwrap().iter().flat_map(|v| {
        v["subtasks"].as_array().unwrap().iter().map(move |s| (v["id"].as_str().unwrap().to_owned(), s))
    }) {
        let key = (vertex, subtask["subtask"].as_u64().unwrap());
        let expected = old[&key] + u64::from(lost(subtask));
        assert_eq!(new[&key], expected, "{key:?}");
    }
    // The lost region came back where its disk is.
    for subtask in subtasks(&after).filter(|s| s["attempt"].as_u64().unwrap() > 0) {
        assert_eq!(subtask["taskmanager"], "tm-2");
    }
}
