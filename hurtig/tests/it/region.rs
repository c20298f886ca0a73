//! Four forward-only pipelines are four regions: a lost TaskManager restarts only those that had tasks
//! on it, and a TaskManager that comes back with its folder restores without reading state remotely.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Cluster, lines_below, subtasks};

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

/// Four pipelines without an exchange, each in a slot of its own, that write when each row was made.
fn timed_pipelines(out: &std::path::Path) -> Value {
    let (mut vertices, mut edges) = (Vec::new(), Vec::new());
    let schema = json!({"fields": [{"name": "n", "type": "BIGINT"}, {"name": "made", "type": "TIMESTAMP(3)"}]});
    for i in 0..4 {
        let group = format!("g{i}");
        let path = out.join(i.to_string());
        vertices.push(json!({"id": format!("source{i}"), "parallelism": 1, "slotSharingGroup": group, "operator": {
            "name": format!("pipeline{i}"), "source": {
            "options": {"connector": "datagen", "rows-per-second": "2000",
                "fields.n.kind": "sequence", "fields.n.start": "0", "fields.n.end": "100000000"},
            "schema": schema}}}));
        vertices.push(
            json!({"id": format!("sink{i}"), "parallelism": 1, "slotSharingGroup": group, "operator": {"sink": {
            "options": {"connector": "filesystem", "path": path.display().to_string(), "format": "csv"},
            "schema": schema}}}),
        );
        edges.push(json!({"from": format!("source{i}"), "to": format!("sink{i}")}));
    }
    json!({"name": "timed pipelines", "vertices": vertices, "edges": edges})
}

/// Number and time (ms since 1970) of every row of pipeline `i` that is committed, in order of the number.
fn rows(out: &std::path::Path, i: usize) -> Vec<(u64, i64)> {
    let parse = |line: &String| {
        let (n, made) = line.split_once(',').unwrap();
        let made = chrono::NaiveDateTime::parse_from_str(made.trim_matches('"'), "%Y-%m-%d %H:%M:%S%.f").unwrap();
        (n.parse().unwrap(), made.and_utc().timestamp_millis())
    };
    let mut rows: Vec<(u64, i64)> = lines_below(&out.join(i.to_string())).iter().map(parse).collect();
    rows.sort_unstable();
    rows
}

/// The longest time between two rows that follow each other, of those from `from` to `to`.
fn longest_pause(rows: &[(u64, i64)], from: i64, to: i64) -> i64 {
    let times = rows.windows(2).filter(|pair| (from..to).contains(&pair[0].1));
    times.map(|pair| pair[1].1 - pair[0].1).max().unwrap()
}

#[test]
fn the_other_regions_run_on_without_a_pause_while_one_restarts() {
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
    let out = cluster.folder.path().join("out");
    let graph = cluster.folder.path().join("graph.json");
    std::fs::write(&graph, timed_pipelines(&out).to_string()).unwrap();
    let id = cluster.submit(&graph);
    cluster.wait_running(&id);
    let before = cluster.wait_for(&id, "checkpoints complete", |job| job["last_checkpoint"].as_u64().unwrap() >= 6);
    let lost = attempts_on(&before, "tm-2");
    let killed = chrono::Utc::now().timestamp_millis();
    cluster.kill_taskmanager(2);
    cluster.restart_taskmanager(2);
    let after = cluster.wait_for(&id, "the job runs again", |job| {
        job["restarts"].as_u64().unwrap() > 0
            && job["state"] == "RUNNING"
            && subtasks(job).all(|s| s["state"] == "RUNNING")
    });
    let back = chrono::Utc::now().timestamp_millis();
    cluster.wait_for(&id, "checkpoints complete", |job| {
        job["last_checkpoint"].as_u64().unwrap() >= after["last_checkpoint"].as_u64().unwrap() + 3
    });
    assert_eq!(lost.len(), 1);
    for i in 0..4 {
        let rows = rows(&out, i);
        assert!(rows.iter().map(|(n, _)| *n).eq(0..rows.len() as u64), "pipeline {i} has a gap, or rows twice");
        assert!(rows.last().unwrap().1 > back, "pipeline {i} went on");
        if !lost.contains(&i) {
            // What the machine does to all rows alike is no pause of the region's.
            let usual = longest_pause(&rows, rows[0].1, killed);
            let pause = longest_pause(&rows, killed, back);
            assert!(pause <= 500.max(2 * usual), "pipeline {i} paused for {pause} ms; before at most {usual} ms");
        }
    }
}

/// The pipelines whose tasks are on a TaskManager.
fn attempts_on(job: &Value, taskmanager: &str) -> Vec<usize> {
    let vertices = job["vertices"].as_array().unwrap().iter();
    let on_it = |v: &&Value| v["subtasks"][0]["taskmanager"] == taskmanager;
    let number = |v: &Value| v["name"].as_str().unwrap().chars().find(char::is_ascii_digit).unwrap();
    vertices.filter(on_it).map(|v| number(v).to_digit(10).unwrap() as usize).collect()
}

#[test]
fn a_region_whose_slot_is_lost_waits_and_then_the_job_goes_on_with_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("execution.checkpointing.dir={}", folder.path().display());
    let mut cluster = Cluster::start(
        3,
        1,
        &[
            "execution.checkpointing.interval=300 ms",
            "jobmanager.scheduler=Adaptive",
            "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout=5 s",
            "restart-strategy.exponential-delay.initial-backoff=10 ms",
            &directory,
        ],
    );
    let out = cluster.folder.path().join("out");
    let script = format!(
        "SET 'parallelism.default' = '3';
         CREATE TABLE a (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '3000',
           'number-of-rows' = '60000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '59999');
         CREATE TABLE b (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
         INSERT INTO b SELECT n FROM a WHERE n >= 0;",
        out.display()
    );
    let id = cluster.insert(&script);
    cluster.wait_running(&id);
    let before = cluster.wait_for(&id, "checkpoints complete", |job| job["last_checkpoint"].as_u64().unwrap() > 1);
    cluster.kill_taskmanager(1);
    let on_others = |job: &Value| -> Vec<(u64, u64, String)> {
        let others = subtasks(job).filter(|s| s["taskmanager"] != "tm-1");
        let figures = |s: &Value| {
            (s["subtask"].as_u64().unwrap(), s["attempt"].as_u64().unwrap(), s["state"].as_str().unwrap().to_owned())
        };
        others.map(figures).collect()
    };
    let waiting = cluster.wait_for(&id, "the region waits for a slot", |job| {
        job["state"] == "RESTARTING" && !job["waiting_for"].as_str().unwrap().is_empty()
    });
    assert_eq!(on_others(&waiting), on_others(&before), "the other regions run on");
    let read = |job: &Value| subtasks(job).map(|s| s["rows_in"].as_u64().unwrap()).sum::<u64>();
    let completed = waiting["checkpoints_completed"].clone();
    let later = cluster
        .wait_for(&id, "the others read on", |job| job["state"] != "RESTARTING" || read(job) > read(&waiting) + 1_000);
    if later["state"] == "RESTARTING" && widths(&later) == [3] {
        assert_eq!(later["checkpoints_completed"], completed, "no checkpoint is taken meanwhile");
    }
    let after = cluster.wait_for(&id, "the job runs with two slots", |job| {
        job["state"] == "RUNNING" && widths(job) == [2] && subtasks(job).all(|s| s["state"] == "RUNNING")
    });
    assert!(after["restored_checkpoint"].as_u64().unwrap() >= before["last_checkpoint"].as_u64().unwrap());
    cluster.wait_finished(&id);
    let mut numbers: Vec<u64> = lines_below(&out).iter().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..60_000), "every row is there once");
}

fn widths(job: &Value) -> Vec<u64> {
    job["vertices"].as_array().unwrap().iter().map(|v| v["parallelism"].as_u64().unwrap()).collect()
}
