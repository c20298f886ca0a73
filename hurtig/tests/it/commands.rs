//! The commands beyond `hurtig sql`: submission by file, configuration files, addresses.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Cluster, hurtig};

#[test]
fn a_job_id_makes_submission_idempotent() {
    let cluster = Cluster::start(1, 1, &[]);
    let address = cluster.address();
    let file = cluster.folder.path().join("graph.json");
    let graph = json!({
        "name": "few rows",
        "vertices": [
            {"id": "in", "operator": {"source": {
                "options": {"connector": "datagen", "number-of-rows": "3"},
                "schema": {"fields": [{"name": "n", "type": "INT"}]}}}},
            {"id": "out", "operator": {"sink": {"options": {"connector": "blackhole"}}}}
        ],
        "edges": [{"from": "in", "to": "out"}]
    });
    std::fs::write(&file, graph.to_string()).unwrap();
    let file = file.display().to_string();
    let id = "0123456789abcdef0123456789abcdef";
    for _ in 0..2 {
        let arguments = ["jobs", "submit", &file, "--cluster", &address, "--job-id", id, "--wait"];
        let output = hurtig().args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.trim(), format!("{id} FINISHED"), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let output = hurtig().args(["jobs", "list", "--json", "--cluster", &address]).output().unwrap();
    let jobs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(jobs.as_array().unwrap().len(), 1);
    let source = &cluster.job(id)["vertices"][0]["subtasks"][0];
    assert_eq!(source["rows_in"], 3, "a source counts what it has read");
    let output = hurtig().args(["jobs", "cancel", id, "--cluster", &address]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), format!("job {id} has ended already: FINISHED"));
}

#[test]
fn what_a_query_left_on_disk_is_gone_after_the_terminal_closes() {
    let folder = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE a (n INT) WITH ('connector' = 'datagen', 'rows-per-second' = '10'); SELECT n FROM a";
    // The tests themselves may run under nohup, and an ignored signal is inherited.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_hurtig")]);
    command.args(["sql", "-e", sql]).env("TMPDIR", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut query = command.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(query.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_some(), "a running cluster has its folder");
    let status = Command::new("kill").args(["-HUP", &query.id().to_string()]).status().unwrap();
    assert!(status.success());
    let output = query.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert!(errors.contains("ended by SIGHUP"), "{errors}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_configuration_file_is_read_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, "taskmanager:\n  numberOfTaskSlots: 2\nrestart-strategy: fixed-delay\n").unwrap();
    let run = || hurtig().args(["sql", "-e", "SELECT 1 AS n"]).env("FLINK_CONF_DIR", folder.path()).output().unwrap();
    let output = run();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("restart-strategy is an older spelling: write restart-strategy.type"), "{errors}");

    std::fs::write(&file, "taskmanager:\n  numberOfTaskSlot: 2\n").unwrap();
    let output = run();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{errors}");
    assert!(errors.contains("did you mean taskmanager.numberOfTaskSlots?"), "{errors}");
}

#[test]
fn a_jobmanager_that_cannot_be_reached_is_named() {
    let output = hurtig().args(["jobs", "list", "--cluster", "127.0.0.1:1"]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(9), "{errors}");
    assert!(errors.contains("cannot reach the JobManager at 127.0.0.1:1"), "{errors}");
}

#[test]
fn a_cluster_is_started_looked_at_and_stopped_without_remains() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let started = hurtig()
        .args(["cluster", "start", "-n", "2", "--dir", &dir, "-D", "jobmanager.rpc.port=0", "--json"])
        .output()
        .unwrap();
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let cluster: Value = serde_json::from_slice(&started.stdout).unwrap();
    let address = cluster["jobmanager"]["rpc"].as_str().unwrap();
    let again = hurtig().args(["cluster", "start", "--dir", &dir]).output().unwrap();
    assert!(String::from_utf8_lossy(&again.stderr).contains("running already"), "a second one is refused");
    let doctor = hurtig().args(["doctor", "--cluster", address]).output().unwrap();
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.status.success() && text.contains("TaskManagers"), "{text}");

    let stopped = hurtig().args(["cluster", "stop", "--dir", &dir]).output().unwrap();
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    let members = cluster["taskmanagers"].as_array().unwrap().iter().chain([&cluster["jobmanager"]]);
    for pid in members.map(|m| m["pid"].as_u64().unwrap()) {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A process that has ended may wait for its parent to take note.
        assert!(state.is_empty() || state.contains(") Z "), "{pid} still runs: {state}");
    }
    assert!(std::net::TcpStream::connect(address).is_err(), "the port is free");
}

/// An address of loopback with a port that somebody listens on.
fn assert_listens(address: &Value) {
    let address: std::net::SocketAddr = address.as_str().unwrap_or_default().parse().unwrap_or_else(|e| {
        panic!("{address}: {e}");
    });
    assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
    std::net::TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
}

#[test]
fn ready_processes_say_where_they_are() {
    let cluster = Cluster::start(1, 1, &["taskmanager.data.port=0"]);
    let (jobmanager, taskmanager) = (&cluster.jobmanager.ready, &cluster.taskmanagers[0].ready);
    for (ready, role) in [(jobmanager, "jobmanager"), (taskmanager, "taskmanager")] {
        assert_eq!((&ready["ready"], &ready["role"]), (&json!(true), &json!(role)));
        assert_listens(&ready["rpc"]);
        assert_listens(&ready["metrics"]);
        let command = std::fs::read_to_string(format!("/proc/{}/cmdline", ready["pid"])).unwrap();
        assert!(command.contains(role), "{command}");
    }
    assert_listens(&taskmanager["data"]);
    assert_eq!(taskmanager["rpc"], jobmanager["rpc"]);
}

#[test]
fn logs_are_json_lines_if_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = hurtig();
    command.args(["jobmanager", "--log-json", "-D", "jobmanager.rpc.port=0", "-D", "restart-strategy=none"]);
    let process = crate::harness::Process::launch(command, folder.path().join("log"), true);
    let log = process.logged();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let warning = lines.iter().find(|line| line["level"] == "WARN").unwrap_or_else(|| panic!("{log}"));
    assert!(warning["message"].as_str().unwrap().contains("write restart-strategy.type"), "{warning}");
}

fn scrape(process: &Value) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(process["metrics"].as_str().unwrap()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

#[test]
fn a_running_job_is_shown_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("execution.checkpointing.dir={}", folder.path().display());
    let cluster = Cluster::start(1, 1, &["execution.checkpointing.interval=200 ms", &directory]);
    let id = cluster.insert(
        "CREATE TABLE a (n BIGINT, ts AS CAST(CURRENT_TIMESTAMP AS TIMESTAMP(3)), WATERMARK FOR ts AS ts)
           WITH ('connector' = 'datagen', 'rows-per-second' = '500', 'fields.n.min' = '1', 'fields.n.max' = '9');
         CREATE TABLE b (n BIGINT, c BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO b SELECT n, COUNT(*) FROM a GROUP BY n;",
    );
    let job = cluster.wait_for(&id, "rows flow and a checkpoint completes", |job| {
        job["last_checkpoint"].as_u64().unwrap() > 0
            && crate::harness::rows_behind_sources(job) > 0
            && job["vertices"][0]["subtasks"][0]["watermark_ms"].is_i64()
    });
    for key in ["state", "restarts", "restored_checkpoint", "last_checkpoint", "root_cause"] {
        assert!(!job[key].is_null(), "{key}: {job:#}");
    }
    for subtask in crate::harness::subtasks(&job) {
        for key in ["attempt", "region", "taskmanager", "rows_in", "rows_out"] {
            assert!(!subtask[key].is_null(), "{key}: {job:#}");
        }
    }

    let (jobmanager, taskmanager) = (scrape(&cluster.jobmanager.ready), scrape(&cluster.taskmanagers[0].ready));
    let name = |metric: &str| format!("{metric}{{");
    for metric in ["numRestarts", "numberOfCompletedCheckpoints", "lastCheckpointSize", "lastCheckpointDuration"] {
        assert!(jobmanager.contains(&name(&format!("flink_jobmanager_job_{metric}"))), "{metric}: {jobmanager}");
    }
    for metric in [
        "numRecordsIn",
        "numRecordsOut",
        "numBytesIn",
        "numBytesOut",
        "busyTimeMsPerSecond",
        "idleTimeMsPerSecond",
        "backPressuredTimeMsPerSecond",
        "currentInputWatermark",
    ] {
        assert!(
            taskmanager.contains(&name(&format!("flink_taskmanager_job_task_{metric}"))),
            "{metric}: {taskmanager}"
        );
    }
    assert!(jobmanager.contains(&id) && taskmanager.contains(&id));

    let output = hurtig().args(["jobs", "cancel", &id, "--cluster", &cluster.address()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let job = cluster.wait_for(&id, "the job is cancelled", |job| job["state"] == "CANCELED");
    assert_eq!(job["root_cause"], "");
}

#[test]
fn the_version_has_the_commit() {
    let output = hurtig().arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let commit = text.trim().strip_prefix("hurtig ").and_then(|t| t.split_once(" (")).unwrap().1.trim_end_matches(')');
    assert!(commit == "unknown" || commit.len() >= 7, "{text}");
}

#[test]
fn a_benchmark_prints_its_figures() {
    let arguments =
        "bench nexmark --queries q0,q1,q12,q17 --events 20000 --parallelism 2 --checkpoint-interval 2s --json";
    let output = hurtig().args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let queries: Vec<&str> = list.as_array().unwrap().iter().map(|m| m["query"].as_str().unwrap()).collect();
    assert_eq!(queries, ["q0", "q1", "q12", "q17"]);
    for measured in list.as_array().unwrap() {
        assert_eq!(measured["events"], 20_000);
        for key in ["seconds", "events_per_second", "cpu_seconds", "peak_memory_bytes"] {
            assert!(measured[key].as_f64().unwrap() > 0.0, "{key}: {measured}");
        }
        assert!(measured["checkpoints"].is_u64() && measured["checkpoint_bytes"].is_u64(), "{measured}");
        assert_eq!(measured["result_checksum"].as_str().unwrap().len(), 16, "{measured}");
    }
}
