//! Two JobManagers that stand in for each other, three TaskManagers, checkpoints and leadership in an
//! S3 server: the leader is killed or paused while a windowed job writes files exactly once.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, Process, Setup, hurtig, lines_below, subtasks};

const ROWS_PER_SECOND: u32 = 3_000;
const SECONDS: u32 = 25;
/// Attempts of a leader that has followed another begin there or above.
const SECOND_LEADER: u64 = 10_000;

fn script(out: &Path, rate: u32) -> String {
    let rows = ROWS_PER_SECOND * SECONDS;
    let last = rows - 1;
    format!(
        "SET 'parallelism.default' = '3';
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

struct Pair {
    cluster: Cluster,
    standby: Process,
    _s3: hurtig_testkit::S3Server,
}

impl Pair {
    fn start() -> Pair {
        let s3 = hurtig_testkit::S3Server::start("flink", "access", "secret");
        let options = [
            "taskmanager.numberOfTaskSlots=2".to_owned(),
            "execution.checkpointing.interval=500 ms".to_owned(),
            "state.checkpoints.dir=s3p://flink/checkpoints".to_owned(),
            "restart-strategy=exponential-delay".to_owned(),
            "restart-strategy.exponential-delay.initial-backoff=10 ms".to_owned(),
            "state.backend.local-recovery=true".to_owned(),
            "high-availability.type=kubernetes".to_owned(),
            "high-availability.storageDir=s3p://flink/ha".to_owned(),
            "high-availability.cluster-id=/test".to_owned(),
            "hurtig.high-availability.lease=2 s".to_owned(),
            "hurtig.high-availability.reconcile-timeout=8 s".to_owned(),
            "s3.path.style.access=true".to_owned(),
            "s3.access-key=access".to_owned(),
            "s3.secret-key=secret".to_owned(),
            format!("s3.endpoint={}", s3.endpoint()),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let cluster = Cluster::start_as(Setup::default(), 3, &options);
        let mut arguments = vec!["jobmanager", "-D", "jobmanager.rpc.port=0"];
        options.iter().for_each(|option| arguments.extend(["-D", option]));
        let standby = Process::start(&arguments, cluster.folder.path().join("standby.log"));
        assert_eq!(cluster.jobmanager.ready["leader"], true, "{}", cluster.jobmanager.ready);
        assert_eq!(standby.ready["leader"], false, "{}", standby.ready);
        Pair { cluster, standby, _s3: s3 }
    }

    fn addresses(&self) -> String {
        format!("{},{}", self.cluster.address(), self.standby.ready["rpc"].as_str().unwrap())
    }

    /// `hurtig jobs show`, asked of whoever leads; `None` while nobody does.
    fn job(&self, id: &str) -> Option<Value> {
        let output = hurtig().args(["jobs", "show", id, "--json", "--cluster", &self.addresses()]).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn wait_for(&self, id: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let job = self.job(id);
            if let Some(job) = job.as_ref().filter(|job| condition(job)) {
                return job.clone();
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain until {what}; the job is {job:#?}");
            assert!(job.as_ref().is_none_or(|job| job["state"] != "FAILED"), "while waiting until {what}: {job:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A job under way that has completed a few checkpoints.
    fn started(&self, out: &Path) -> (String, Value) {
        let id = self.cluster.insert(&script(out, ROWS_PER_SECOND));
        let job = self.wait_for(&id, "checkpoints complete while all run", |job| {
            runs(job) && job["last_checkpoint"].as_u64().unwrap() >= 3
        });
        (id, job)
    }

    /// The files are those of a job that nothing happened to.
    fn assert_output(&self, out: &Path) {
        let clean = self.cluster.folder.path().join("clean");
        let output =
            hurtig().args(["sql", "--cluster", &self.addresses(), "-e", &script(&clean, 1_000_000)]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let id = text.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 32).unwrap().to_owned();
        self.wait_for(&id, "the undisturbed job has finished", |job| job["state"] == "FINISHED");
        let (disturbed, clean) = (lines_below(out), lines_below(&clean));
        assert!(!clean.is_empty());
        assert_eq!(disturbed, clean);
    }
}

fn runs(job: &Value) -> bool {
    job["state"] == "RUNNING" && subtasks(job).all(|s| s["state"] == "RUNNING")
}

fn attempts(job: &Value) -> Vec<u64> {
    subtasks(job).map(|s| s["attempt"].as_u64().unwrap()).collect()
}

#[test]
fn a_killed_leader_is_followed_and_no_task_restarts() {
    let mut pair = Pair::start();
    let out = pair.cluster.folder.path().join("disturbed");
    let (id, before) = pair.started(&out);
    pair.cluster.jobmanager.kill();
    let last = before["last_checkpoint"].as_u64().unwrap();
    let after = pair.wait_for(&id, "the standby goes on with checkpoints", |job| {
        runs(job) && job["last_checkpoint"].as_u64().unwrap() > last + 100
    });
    assert_eq!(attempts(&after), attempts(&before), "tasks have restarted: {after:#}");
    assert_eq!(after["restarts"], 0);
    pair.wait_for(&id, "the job has finished", |job| job["state"] == "FINISHED");
    pair.assert_output(&out);
}

#[test]
fn a_leader_and_a_taskmanager_are_killed_together() {
    let mut pair = Pair::start();
    let out = pair.cluster.folder.path().join("disturbed");
    let (id, before) = pair.started(&out);
    let victim = subtasks(&before).find_map(|s| s["taskmanager"].as_str()).unwrap();
    let victim: usize = victim.trim_start_matches("tm-").parse().unwrap();
    pair.cluster.jobmanager.kill();
    pair.cluster.kill_taskmanager(victim);
    pair.cluster.restart_taskmanager(victim);
    let last = before["last_checkpoint"].as_u64().unwrap();
    let after = pair.wait_for(&id, "the standby has restarted the job", |job| {
        runs(job) && job["last_checkpoint"].as_u64().unwrap() > last
    });
    assert!(attempts(&after).iter().all(|attempt| *attempt >= SECOND_LEADER), "{after:#}");
    assert!(after["restored_checkpoint"].as_u64().unwrap() >= last);
    pair.wait_for(&id, "the job has finished", |job| job["state"] == "FINISHED");
    pair.assert_output(&out);
}

#[test]
fn a_paused_leader_comes_back_as_standby() {
    let pair = Pair::start();
    let out = pair.cluster.folder.path().join("disturbed");
    let (id, before) = pair.started(&out);
    let pid = pair.cluster.jobmanager.pid().to_string();
    signal(&pid, "-STOP");
    let standby = pair.standby.ready["rpc"].as_str().unwrap().to_owned();
    let last = before["last_checkpoint"].as_u64().unwrap();
    let start = Instant::now();
    loop {
        let show = hurtig().args(["jobs", "show", &id, "--json", "--cluster", &standby]).output().unwrap();
        let job: Value = serde_json::from_slice(&show.stdout).unwrap_or_default();
        if show.status.success() && runs(&job) && job["last_checkpoint"].as_u64().unwrap() > last + 100 {
            assert_eq!(attempts(&job), attempts(&before), "tasks have restarted: {job:#}");
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the standby does not go on with the job: {job:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
    signal(&pid, "-CONT");
    let start = Instant::now();
    while !pair.cluster.jobmanager.logged().contains("leads no more") {
        assert!(start.elapsed() < PATIENCE, "the zombie does not step down");
        std::thread::sleep(Duration::from_millis(50));
    }
    // It names the leader, and clients follow.
    let first = pair.cluster.address();
    let list = hurtig().args(["jobs", "show", &id, "--json", "--cluster", &first]).output().unwrap();
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
    pair.wait_for(&id, "the job has finished", |job| job["state"] == "FINISHED");
    pair.assert_output(&out);
}

fn signal(pid: &str, signal: &str) {
    assert!(std::process::Command::new("kill").args([signal, pid]).status().unwrap().success());
}
