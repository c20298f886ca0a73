//! A sink that stands still: its job stops and takes no memory, and nobody else notices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cluster, PATIENCE, Setup, rows_behind_sources, subtasks};

/// Of each TaskManager.
const PROCESS_MEMORY: u64 = 256 << 20;
const ALONE: Duration = Duration::from_secs(10);
const STALLED: Duration = Duration::from_secs(60);

/// Sums over as many groups as rows, at full speed, to standard output.
const PRINTED: &str = "
    SET 'parallelism.default' = '2';
    CREATE TABLE a (n BIGINT, s STRING) WITH ('connector' = 'datagen', 'rows-per-second' = '1000000000',
      'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '1000000000000', 'fields.s.length' = '100');
    CREATE TABLE p (n BIGINT, s STRING, c BIGINT) WITH ('connector' = 'print');
    INSERT INTO p SELECT n, MAX(s), COUNT(*) FROM a GROUP BY n;";

/// 4,000 rows a second, half of which change the process.
fn paced() -> Value {
    json!({
        "name": "paced",
        "vertices": [
            {"id": "source", "parallelism": 2, "operator": {"source": {
                "options": {"connector": "datagen", "rows-per-second": "4000", "fields.s.length": "100",
                    "fields.n.kind": "sequence", "fields.n.start": "0", "fields.n.end": "1000000000"},
                "schema": {"fields": [{"name": "n", "type": "BIGINT"}, {"name": "s", "type": "STRING"}]}}}},
            {"id": "sink", "parallelism": 2, "operator": {"sink": {"options": {"connector": "blackhole"}}}}
        ],
        "edges": [{"from": "source", "to": "sink", "partitioner": {"hash": {"columnNames": ["n"]}}}]
    })
}

/// Rows of a job at some time.
struct Reading {
    at: Instant,
    rows: u64,
}

fn read(cluster: &Cluster, id: &str) -> Reading {
    let job = cluster.job(id);
    assert_eq!((&job["state"], &job["restarts"]), (&json!("RUNNING"), &json!(0)), "{job:#}");
    Reading { at: Instant::now(), rows: rows_behind_sources(&job) }
}

/// Rows a second over `time`.
fn rate(cluster: &Cluster, id: &str, time: Duration) -> f64 {
    let first = read(cluster, id);
    std::thread::sleep(time);
    let last = read(cluster, id);
    (last.rows - first.rows) as f64 / (last.at - first.at).as_secs_f64()
}

fn taskmanagers(job: &Value) -> BTreeSet<&str> {
    subtasks(job).map(|s| s["taskmanager"].as_str().unwrap()).collect()
}

#[test]
fn a_stalled_sink_takes_no_memory_and_slows_no_other_job() {
    let memory = format!("taskmanager.memory.process.size={PROCESS_MEMORY}b");
    let options = [memory.as_str(), "taskmanager.numberOfTaskSlots=2", "hurtig.metrics.report-interval=100 ms"];
    let cluster = Cluster::start_as(Setup { unread: Some(1), ..Setup::default() }, 2, &options);
    let graph = cluster.folder.path().join("paced.json");
    std::fs::write(&graph, paced().to_string()).unwrap();
    let paced = cluster.submit(&graph);
    let job = cluster.wait_running(&paced);
    assert_eq!(taskmanagers(&job).len(), 2, "an edge between two processes: {job:#}");
    let alone = rate(&cluster, &paced, ALONE);

    let printed = cluster.insert(PRINTED);
    let job = cluster.wait_running(&printed);
    assert_eq!(taskmanagers(&job).len(), 2, "{job:#}");
    // Until the pipe is full, and then everything in front of it.
    let start = Instant::now();
    let mut last = read(&cluster, &printed);
    while last.rows == 0 || last.at.elapsed() < Duration::from_secs(5) {
        assert!(start.elapsed() < PATIENCE, "the sink does not stall: {} rows", last.rows);
        std::thread::sleep(Duration::from_millis(500));
        let now = read(&cluster, &printed);
        if now.rows != last.rows {
            last = now;
        }
    }

    let beside = rate(&cluster, &paced, STALLED);
    assert_eq!(read(&cluster, &printed).rows, last.rows, "the job with the stalled sink moves");
    assert!(beside >= 0.8 * alone, "{beside:.0} rows/s beside the stalled job, {alone:.0} alone");
    for process in &cluster.taskmanagers {
        let peak = process.memory().peak;
        assert!(peak < PROCESS_MEMORY, "{} MiB of {} MiB", peak >> 20, PROCESS_MEMORY >> 20);
    }
}
