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
