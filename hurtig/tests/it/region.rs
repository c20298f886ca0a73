//! Four forward-only pipelines are four regions: a lost TaskManager restarts only those that had tasks
//! on it, and a TaskManager that comes back with its folder restores without reading state remotely.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Cluster, subtasks};

const SCRIPT: &str = "
    SET 'parallelism.default' = '4';
    CREATE TABLE a (n BIGINT, k BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '2000',
      'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '100000000',
      'fields.k.min' = '1', 'fields.k.max' = '100');
    CREATE TABLE b (n BIGINT, k BIGINT) WITH ('connector' = 'blackhole');
    INSERT INTO b SELECT n, k FROM a WHERE n >= 0;";

pub fn attempts(job: &Value) -> BTreeMap<(String, u64), u64> {
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
    for (vertex, subtask) in
        before["vertices"].as_array().unwrap().iter().flat_map(|v| {
            v["subtasks"].as_array().unwrap().iter().map(move |s| (v["id"].as_str().unwrap().to_owned(), s))
        })
    {
        let key = (vertex, subtask["subtask"].as_u64().unwrap());
        let expected = old[&key] + u64::from(lost(subtask));
        assert_eq!(new[&key], expected, "{key:?}");
    }
    // The lost region came back where its disk is.
    for subtask in subtasks(&after).filter(|s| s["attempt"].as_u64().unwrap() > 0) {
        assert_eq!(subtask["taskmanager"], "tm-2");
    }
}

/// Four pipelines with keyed state, each in a slot of its own.
pub fn stateful_pipelines() -> Value {
    let (mut vertices, mut edges) = (Vec::new(), Vec::new());
    for i in 0..4 {
        let group = format!("g{i}");
        let vertex = |id: &str, operator: Value| json!({"id": format!("{id}{i}"), "parallelism": 1, "slotSharingGroup": group, "operator": operator});
        vertices.push(vertex(
            "source",
            json!({"source": {
                "options": {"connector": "datagen", "rows-per-second": "5000",
                    "fields.n.kind": "sequence", "fields.n.start": "0", "fields.n.end": "100000000"},
                "schema": {"fields": [{"name": "n", "type": "BIGINT"}]}}}),
        ));
        vertices.push(vertex(
            "count",
            json!({"uid": format!("count-{i}"), "groupAggregate": {"keyNames": ["n"], "aggregates": [{"function": "COUNT", "name": "c"}]}}),
        ));
        vertices.push(vertex("sink", json!({"sink": {"options": {"connector": "blackhole"}}})));
        edges.push(json!({"from": format!("source{i}"), "to": format!("count{i}"), "partitioner": {"hash": {"columnNames": ["n"]}}}));
        edges.push(json!({"from": format!("count{i}"), "to": format!("sink{i}")}));
    }
    json!({"name": "four pipelines", "vertices": vertices, "edges": edges})
}

#[test]
fn state_is_restored_from_the_local_disk_and_from_s3_only_when_that_is_gone() {
    let s3 = hurtig_testkit::S3Server::start("flink", "access", "secret");
    let endpoint = format!("s3.endpoint={}", s3.endpoint());
    let mut cluster = Cluster::start(
        4,
        1,
        &[
            "execution.checkpointing.interval=500 ms",
            "execution.checkpointing.dir=s3p://flink/checkpoints",
            "execution.state-recovery.from-local=true",
            "restart-strategy.exponential-delay.initial-backoff=10 ms",
            "s3.path.style.access=true",
            "s3.access-key=access",
            "s3.secret-key=secret",
            &endpoint,
        ],
    );
    let graph = cluster.folder.path().join("graph.json");
    std::fs::write(&graph, stateful_pipelines().to_string()).unwrap();
    let id = cluster.submit(&graph);
    for delete_disk in [false, true] {
        let before = cluster.wait_for(&id, "two more checkpoints complete", |job| {
            job["state"] == "RUNNING"
                && subtasks(job).all(|s| s["state"] == "RUNNING")
                && job["last_checkpoint"].as_u64().unwrap() >= job["restored_checkpoint"].as_u64().unwrap() + 2
        });
        cluster.kill_taskmanager(1);
        if delete_disk {
            std::fs::remove_dir_all(cluster.working_dir(1)).unwrap();
        }
        s3.clear_log();
        cluster.restart_taskmanager(1);
        let after = cluster.wait_for(&id, "the job runs again", |job| {
            job["restarts"].as_u64().unwrap() > before["restarts"].as_u64().unwrap()
                && job["state"] == "RUNNING"
                && subtasks(job).all(|s| s["state"] == "RUNNING")
        });
        let reads = s3.count("GET", "/shared/");
        if delete_disk {
            let files: u64 = subtasks(&after).map(|s| s["restore"]["remote_files"].as_u64().unwrap_or(0)).sum();
            assert!(reads > 0 && reads as u64 >= files, "{files} files must come from S3: {:?}", s3.requests());
            assert!(subtasks(&after).all(|s| s["restore"]["local_files"].as_u64().unwrap_or(0) == 0), "{after:#}");
        } else {
            assert_eq!(reads, 0, "the state must come from the local disk: {:?}", s3.requests());
        }
        let restored = after["restored_checkpoint"].as_u64().unwrap();
        assert!(restored >= before["last_checkpoint"].as_u64().unwrap());
    }
}
