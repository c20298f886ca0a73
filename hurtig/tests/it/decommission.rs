//! TaskManagers that are to go: a job that writes files exactly once leaves them with a checkpoint and one
//! restart, and they end in order.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, Process, hurtig, lines_below, subtasks};

const ROWS_PER_SECOND: u32 = 3_000;
const SECONDS: u32 = 30;

fn script(out: &Path, rate: u32) -> String {
    let rows = ROWS_PER_SECOND * SECONDS;
    let last = rows - 1;
    format!(
        "SET 'parallelism.default' = '2';
         CREATE TABLE events (n BIGINT, k AS n % 53, ts AS TIMESTAMPADD(SECOND, CAST(n / 1000 AS INT), TIMESTAMP '2024-01-01 00:00:00.000'),
           WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
           WITH ('connector' = 'datagen', 'rows-per-second' = '{rate}', 'number-of-rows' = '{rows}',
                 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{last}');
         CREATE TABLE windows (k BIGINT, n BIGINT, total BIGINT, w TIMESTAMP(3))
           WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'csv');
         INSERT INTO windows SELECT k, COUNT(*), SUM(n), window_start
           FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY k, window_start, window_end;",
        out = out.display()
    )
}

/// `taskmanagers` TaskManagers with one slot each. The strategy allows no restart, so that one that it counts
/// fails the job; periodic checkpoints are far apart, so that one in between was asked for.
fn cluster(taskmanagers: usize, more: &[&str]) -> Cluster {
    let options = ["execution.checkpointing.interval=10 min", "restart-strategy.type=none"];
    Cluster::start(taskmanagers, 1, &[&options, more].concat())
}

/// A job under way, and the TaskManagers that run it.
fn started(cluster: &Cluster, out: &Path) -> (String, Vec<usize>) {
    let id = cluster.insert(&script(out, ROWS_PER_SECOND));
    let job = cluster.wait_for(&id, "rows pass while all run", |job| {
        runs(job) && crate::harness::rows_behind_sources(job) > u64::from(ROWS_PER_SECOND)
    });
    (id, used(&job))
}

fn runs(job: &Value) -> bool {
    job["state"] == "RUNNING" && subtasks(job).all(|s| s["state"] == "RUNNING")
}

/// The numbers of the TaskManagers with tasks of the job.
fn used(job: &Value) -> Vec<usize> {
    let names = subtasks(job).filter_map(|s| s["taskmanager"].as_str());
    let mut numbers: Vec<usize> = names.map(|name| name.trim_start_matches("tm-").parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn moved(cluster: &Cluster, id: &str) -> Value {
    // On a slow machine the job can be at its end by then.
    let goes_on = |job: &Value| subtasks(job).all(|s| s["state"] == "RUNNING" || s["state"] == "FINISHED");
    cluster.wait_for(id, "the job has moved", |job| job["restarts"] == 1 && goes_on(job))
}

/// One restart without a failure, from the checkpoint that was taken for it.
fn assert_planned(job: &Value, taskmanagers: &[&str], source: &str) {
    let restarts = job["restart_reports"].as_array().unwrap();
    let [restart] = &restarts[..] else { panic!("one restart: {restarts:#?}") };
    let left = &restart["decommission"];
    let mut names: Vec<&str> = left["taskmanagers"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, taskmanagers, "{restart:#}");
    assert!(restart["cause"].as_str().unwrap().contains(source), "{restart:#}");
    let checkpoint = left["checkpoint"].as_u64().unwrap();
    assert!(
        checkpoint > 0 && left["checkpoint_triggered_ms"].as_i64() >= left["notice_time_ms"].as_i64(),
        "{restart:#}"
    );
    assert_eq!((&job["restored_checkpoint"], &restart["checkpoint"]), (&left["checkpoint"], &left["checkpoint"]));
    assert_eq!(job["failures"].as_array().map(Vec::len), Some(0), "{job:#}");
    assert_eq!(job["root_cause"], "");
}

/// The files are those of a job that nothing happened to.
fn assert_output(cluster: &Cluster, id: &str, out: &Path) {
    cluster.wait_finished(id);
    let clean = cluster.folder.path().join("clean");
    let undisturbed = cluster.insert(&script(&clean, 1_000_000));
    cluster.wait_finished(&undisturbed);
    let (disturbed, clean) = (lines_below(out), lines_below(&clean));
    assert!(!clean.is_empty());
    assert_eq!(disturbed, clean);
}

fn wait_end(process: &mut Process) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = process.ended() {
            return status.code();
        }
        assert!(start.elapsed() < PATIENCE, "the process does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn listed(cluster: &Cluster) -> Vec<Value> {
    let output = hurtig().args(["taskmanagers", "list", "--json", "--cluster", &cluster.address()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until the list is as `condition` wants it.
fn wait_listed(cluster: &Cluster, condition: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let all = listed(cluster);
        if condition(&all) {
            return all;
        }
        assert!(start.elapsed() < PATIENCE, "{all:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn decommission(cluster: &Cluster, arguments: &[&str]) -> std::process::Output {
    let address = cluster.address();
    let own = ["taskmanagers", "decommission", "--cluster", &address];
    hurtig().args(own).args(arguments).output().unwrap()
}

#[test]
fn sigterm_moves_the_tasks_of_a_taskmanager_in_one_restart() {
    let mut cluster = cluster(3, &[]);
    let out = cluster.folder.path().join("disturbed");
    let (id, used) = started(&cluster, &out);
    let victim = used[0];
    cluster.taskmanagers[victim].signal("TERM");
    let job = moved(&cluster, &id);
    assert_planned(&job, &[&format!("tm-{victim}")], "SIGTERM");
    assert_eq!(wait_end(&mut cluster.taskmanagers[victim]), Some(0), "it ends in order");
    wait_listed(&cluster, |all| all.len() == 2);
    assert_output(&cluster, &id, &out);
    assert_eq!(cluster.job(&id)["restarts"], 1);
}

#[test]
fn two_notices_within_the_window_are_one_restart_once_there_are_slots() {
    let adaptive = [
        "jobmanager.scheduler=Adaptive",
        "jobmanager.adaptive-scheduler.combined-restart.enabled=true",
        "jobmanager.adaptive-scheduler.combined-restart.window-interval=10 min",
    ];
    let mut cluster = cluster(2, &adaptive);
    let out = cluster.folder.path().join("disturbed");
    let (id, used) = started(&cluster, &out);
    for &victim in &used {
        cluster.taskmanagers[victim].signal("TERM");
    }
    let names: Vec<String> = used.iter().map(|victim| format!("tm-{victim}")).collect();
    wait_listed(&cluster, |all| all.iter().filter(|t| t["state"] == "DRAINING").count() == 2);
    assert_eq!(cluster.job(&id)["restarts"], 0, "there is no slot elsewhere");
    let replacements = [7, 8].map(|number| cluster.spawn_taskmanager(number));
    let job = moved(&cluster, &id);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_planned(&job, &names, "SIGTERM");
    for victim in used {
        assert_eq!(wait_end(&mut cluster.taskmanagers[victim]), Some(0));
    }
    assert_output(&cluster, &id, &out);
    assert_eq!(cluster.job(&id)["restarts"], 1);
    drop(replacements);
}

#[test]
fn taskmanagers_are_drained_by_the_command_line_and_listed() {
    let mut cluster = cluster(3, &[]);
    let out = cluster.folder.path().join("disturbed");
    let (id, used) = started(&cluster, &out);
    let name = format!("tm-{}", used[1]);
    let unknown = decommission(&cluster, &["nobody"]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is no TaskManager nobody"));
    let output = decommission(&cluster, &[&name, "--wait"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "drained\n");
    let job = moved(&cluster, &id);
    assert_planned(&job, &[&name], "request");
    let all = listed(&cluster);
    let state = |t: &Value| (t["state"].as_str().unwrap().to_owned(), t["slots_free"].as_u64().unwrap());
    let drained = all.iter().find(|t| t["id"] == *name).unwrap();
    assert_eq!((state(drained), &drained["notice"]["source"]), (("DRAINED".into(), 0), &Value::from("request")));
    assert_eq!(all.iter().filter(|t| t["state"] == "ACTIVE").count(), 2, "{all:#?}");
    // Nothing is left on it: a signal ends it at once.
    cluster.taskmanagers[used[1]].signal("TERM");
    assert_eq!(wait_end(&mut cluster.taskmanagers[used[1]]), Some(0));
    assert_output(&cluster, &id, &out);
    assert_eq!(cluster.job(&id)["restarts"], 1);
}

#[test]
fn a_notice_file_is_a_notice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notice");
    let path = format!("hurtig.decommission.notice-file={}", file.display());
    let cluster = cluster(1, &[path.as_str(), "hurtig.decommission.poll-interval=50 ms"]);
    wait_listed(&cluster, |all| all.first().is_some_and(|t| t["state"] == "ACTIVE"));
    std::fs::write(&file, r#"{"action": "terminate", "time": "2100-01-01T00:00:00Z"}"#).unwrap();
    let drained = wait_listed(&cluster, |all| all.first().is_some_and(|t| t["state"] == "DRAINED"));
    let notice = drained[0]["notice"].clone();
    let year_2100 = 4_102_444_800_000;
    let deadline = notice["deadline_ms"].as_i64().unwrap();
    assert!(notice["source"] == "notice file" && (deadline - year_2100).abs() < 60_000, "{notice}");
}
