//! The configuration of the Amazon EMR guide, as written there: what each key does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hurtig_testkit::S3Server;
use serde_json::{Value, json};

use crate::harness::{Cluster, PATIENCE, Setup, hurtig, subtasks};
use crate::region::{attempts, stateful_pipelines};

/// The guide's keys with its values.
const GUIDE: &str = r#"
jobmanager.execution.failover-strategy: region
restart-strategy: exponential-delay
taskmanager.numberOfTaskSlots: "2"
state.checkpoints.dir: s3p://flink/flink-checkpoint/
execution.checkpointing.interval: 15000
state.backend.local-recovery: true
"#;

/// The guide's configuration with some lines in other words, and with where S3 is.
fn config(s3: &S3Server, replaced: &[(&str, &str)]) -> String {
    let mut text = GUIDE.to_owned();
    for (line, other) in replaced {
        assert!(text.contains(line), "{line}");
        text = text.replace(line, other);
    }
    format!("{text}s3.endpoint: {}\ns3.path.style.access: \"true\"\n", s3.endpoint())
}

fn with_keys(config: String, access: &str, secret: &str) -> Setup {
    Setup { config: Some(format!("{config}s3.access-key: {access}\ns3.secret-key: {secret}\n")), ..Setup::default() }
}

/// Without S3.
fn local(text: &str) -> Setup {
    Setup { config: Some(text.to_owned()), ..Setup::default() }
}

fn submit(cluster: &Cluster, graph: &Value) -> String {
    let file = cluster.folder.path().join("graph.json");
    std::fs::write(&file, graph.to_string()).unwrap();
    cluster.submit(&file)
}

fn runs_again(job: &Value) -> bool {
    job["restarts"].as_u64().unwrap() > 0 && job["state"] == "RUNNING" && subtasks(job).all(|s| s["state"] == "RUNNING")
}

fn checkpoint(job: &Value) -> u64 {
    job["last_checkpoint"].as_u64().unwrap()
}

#[test]
fn the_configuration_of_the_guide_works_as_written() {
    let s3 = S3Server::start("flink", "access", "secret");
    let environment = vec![
        ("AWS_ACCESS_KEY_ID", "access".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_REGION", "eu-central-1".to_owned()),
    ];
    let setup = Setup { config: Some(config(&s3, &[])), environment, unread: None };
    let mut cluster = Cluster::start_as(setup, 2, &[]);
    for process in [&cluster.jobmanager, &cluster.taskmanagers[0]] {
        let log = process.logged();
        for warning in [
            "restart-strategy is an older spelling: write restart-strategy.type",
            "state.checkpoints.dir is an older spelling: write execution.checkpointing.dir",
            "state.backend.local-recovery is an older spelling: write \
             execution.checkpointing.local-backup.enabled and execution.state-recovery.from-local",
        ] {
            assert!(log.contains(warning), "{warning}\n{log}");
        }
    }

    // Four pipelines on two TaskManagers: each has two slots.
    let start = Instant::now();
    let id = submit(&cluster, &stateful_pipelines());
    let job = cluster.wait_running(&id);
    let used: Vec<&str> = subtasks(&job).map(|s| s["taskmanager"].as_str().unwrap()).collect();
    for name in ["tm-0", "tm-1"] {
        assert_eq!(used.iter().filter(|n| **n == name).count() * 2, used.len(), "{used:?}");
    }

    // The first checkpoint comes within the interval, the second that much later.
    let before = cluster.wait_for(&id, "two checkpoints complete", |job| checkpoint(job) >= 2);
    assert!(start.elapsed() >= Duration::from_secs(15), "two checkpoints within {:?}", start.elapsed());
    let folder = format!("flink-checkpoint/{id}/");
    let objects = s3.objects("flink");
    assert!(!objects.is_empty() && objects.iter().all(|(key, _)| key.starts_with(&folder)), "{objects:?}");

    s3.clear_log();
    cluster.kill_taskmanager(1);
    cluster.restart_taskmanager(1);
    let after = cluster.wait_for(&id, "the job runs again", runs_again);
    assert!(after["restored_checkpoint"].as_u64() >= before["last_checkpoint"].as_u64());
    let (old, new) = (attempts(&before), attempts(&after));
    let lost: BTreeSet<u64> =
        subtasks(&before).filter(|s| s["taskmanager"] == "tm-1").map(|s| s["region"].as_u64().unwrap()).collect();
    assert_eq!(lost.len(), 2);
    for vertex in before["vertices"].as_array().unwrap() {
        let region = vertex["subtasks"][0]["region"].as_u64().unwrap();
        let key = (vertex["id"].as_str().unwrap().to_owned(), 0);
        assert_eq!(new[&key], old[&key] + u64::from(lost.contains(&region)), "only what was on it restarts: {key:?}");
    }
    assert_eq!(s3.count("GET", "/shared/"), 0, "the state is on the local disk: {:?}", s3.requests());
    let restored = subtasks(&after).filter(|s| s["restore"]["local_bytes"].as_u64().unwrap_or(0) > 0).count();
    assert_eq!(restored, 2, "{after:#}");
}

#[test]
fn without_local_recovery_state_comes_from_s3_and_the_interval_is_the_one_that_is_set() {
    let s3 = S3Server::start("flink", "access", "secret");
    let replaced = [
        ("state.backend.local-recovery: true", "state.backend.local-recovery: false"),
        ("execution.checkpointing.interval: 15000", "execution.checkpointing.interval: 500"),
    ];
    let mut cluster = Cluster::start_as(with_keys(config(&s3, &replaced), "access", "secret"), 2, &[]);
    let id = submit(&cluster, &stateful_pipelines());
    cluster.wait_running(&id);
    let start = Instant::now();
    cluster.wait_for(&id, "four checkpoints complete", |job| checkpoint(job) >= 4);
    // With the guide's 15 s they take a minute.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(40), "{took:?} for four checkpoints at an interval of 0.5 s");
    s3.clear_log();
    cluster.kill_taskmanager(1);
    // The disk is as it was.
    cluster.restart_taskmanager(1);
    let job = cluster.wait_for(&id, "the job runs again", runs_again);
    assert!(s3.count("GET", "/shared/") > 0, "{:?}", s3.requests());
    assert!(subtasks(&job).all(|s| s["restore"]["local_bytes"].as_u64().unwrap_or(0) == 0), "{job:#}");
}

#[test]
fn full_failover_restarts_every_region() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "jobmanager.execution.failover-strategy: full\ntaskmanager.numberOfTaskSlots: 2\n\
         restart-strategy.exponential-delay.initial-backoff: 10 ms\n\
         execution.checkpointing:\n  interval: 500\n  dir: file://{}\n",
        folder.path().display()
    );
    let mut cluster = Cluster::start_as(local(&text), 2, &[]);
    let id = submit(&cluster, &stateful_pipelines());
    let before = cluster.wait_for(&id, "a checkpoint completes", |job| checkpoint(job) > 0);
    let regions: BTreeSet<u64> = subtasks(&before).map(|s| s["region"].as_u64().unwrap()).collect();
    assert_eq!(regions.len(), 4);
    cluster.kill_taskmanager(1);
    cluster.restart_taskmanager(1);
    let after = cluster.wait_for(&id, "the job runs again", runs_again);
    let restarted: BTreeMap<_, u64> = attempts(&before).into_iter().map(|(key, attempt)| (key, attempt + 1)).collect();
    assert_eq!(attempts(&after), restarted, "every region");
    assert_eq!(after["restarts"], 1);
}

#[test]
fn a_job_waits_for_the_slots_that_are_missing() {
    let mut cluster = Cluster::start_as(local("taskmanager.numberOfTaskSlots: \"2\"\n"), 1, &[]);
    let id = cluster.insert(
        "SET 'parallelism.default' = '3';
         CREATE TABLE a (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '30');
         CREATE TABLE b (n BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO b SELECT n FROM a;",
    );
    let job = cluster.wait_for(&id, "the job says what it waits for", |job| job["waiting_for"] != "");
    let waiting = job["waiting_for"].as_str().unwrap();
    assert!(waiting.starts_with("needs 3 slots, 2 are free of 2"), "{waiting}");
    let another = cluster.spawn_taskmanager(1);
    cluster.taskmanagers.push(another);
    let job = cluster.wait_running(&id);
    assert_eq!(job["waiting_for"], "");
}

/// Fails at its first row, whenever it is started.
const FAILING: &str = "
    CREATE TABLE a (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100',
      'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '1000000');
    CREATE TABLE b (n INT) WITH ('connector' = 'blackhole');
    INSERT INTO b SELECT CAST('row ' || CAST(n AS STRING) AS INT) FROM a;";

/// Waits for any state of the job, FAILED too.
fn wait_until(cluster: &Cluster, id: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let job = cluster.job(id);
        if condition(&job) {
            return job;
        }
        assert!(start.elapsed() < PATIENCE, "{job:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Milliseconds between a job's failures.
fn gaps(job: &Value) -> Vec<i64> {
    let failures = job["failures"].as_array().unwrap();
    let times: Vec<i64> = failures.iter().map(|f| f["time_ms"].as_i64().unwrap()).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn restart_strategies_give_up_or_go_on_as_they_say() {
    let text = "restart-strategy: fixed-delay\n\
        restart-strategy.fixed-delay.attempts: 2\nrestart-strategy.fixed-delay.delay: 300 ms\n\
        taskmanager.numberOfTaskSlots: 3\n";
    let cluster = Cluster::start_as(local(text), 1, &[]);
    let failed = |job: &Value| job["state"] == "FAILED";

    let fixed = wait_until(&cluster, &cluster.insert(FAILING), failed);
    assert_eq!(fixed["restarts"], 2);
    let cause = fixed["root_cause"].as_str().unwrap();
    assert!(cause.contains("row ") && cause.contains("INT"), "{cause}");
    assert_eq!(fixed["failures"].as_array().unwrap().len(), 3);
    assert!(gaps(&fixed).iter().all(|gap| *gap >= 300), "{:?}", gaps(&fixed));
    for vertex in fixed["vertices"].as_array().unwrap() {
        assert_eq!(vertex["subtasks"][0]["attempt"], 2, "{fixed:#}");
    }

    // A job's own setting is stronger than the cluster's.
    let none = cluster.insert(&format!("SET 'restart-strategy.type' = 'none'; {FAILING}"));
    let none = wait_until(&cluster, &none, failed);
    assert_eq!((&none["restarts"], none["failures"].as_array().unwrap().len()), (&json!(0), 1));

    let exponential = "SET 'restart-strategy.type' = 'exponential-delay';
        SET 'restart-strategy.exponential-delay.initial-backoff' = '100 ms';
        SET 'restart-strategy.exponential-delay.backoff-multiplier' = '2';
        SET 'restart-strategy.exponential-delay.jitter-factor' = '0';";
    let id = cluster.insert(&format!("{exponential} {FAILING}"));
    let endless = wait_until(&cluster, &id, |job| {
        assert_ne!(job["state"], "FAILED", "{job:#}");
        job["failures"].as_array().unwrap().len() > 4
    });
    for (gap, delay) in gaps(&endless).iter().zip([100, 200, 400, 800]) {
        assert!(*gap >= delay, "{:?} ms between failures", gaps(&endless));
    }

    let bounded = "SET 'restart-strategy.exponential-delay.attempts-before-reset-backoff' = '1';";
    let id = cluster.insert(&format!("{exponential} {bounded} {FAILING}"));
    assert_eq!(wait_until(&cluster, &id, failed)["restarts"], 1);
}

#[test]
fn a_wrong_secret_is_said_in_words() {
    let s3 = S3Server::start("flink", "access", "secret");
    let cluster = Cluster::start_as(with_keys(config(&s3, &[]), "access", "sesame"), 1, &[]);
    let script = "SET 'table.dml-sync' = 'true';
        CREATE TABLE a (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '30');
        CREATE TABLE b (n BIGINT) WITH ('connector' = 'blackhole');
        INSERT INTO b SELECT n FROM a;";
    let output = hurtig().args(["sql", "--cluster", &cluster.address(), "-e", script]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(errors.contains("check that 's3.secret-key' belongs to access key 'access'"), "{errors}");
    assert!(!errors.contains("sesame"), "{errors}");
    let output = hurtig().args(["jobs", "list", "--json", "--cluster", &cluster.address()]).output().unwrap();
    let jobs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(jobs.as_array().unwrap().iter().all(|job| job["state"] == "FAILED"), "{jobs}");
}
