//! Resources that run out, go away or turn out broken: disk, object storage, a paused process, a damaged
//! file. The job goes on or says what is wrong, and its output is right in the end.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hurtig_testkit::{Fault, FaultKind, S3Server};
use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, Process, hurtig, lines_below, subtasks};

/// Counts in state that grows, and pairs of them in files.
fn script(out: &Path, rows: u32, rows_per_second: u32) -> String {
    let last = rows - 1;
    format!(
        "SET 'parallelism.default' = '1';
         CREATE TABLE events (n BIGINT, k AS n % 1000, pad AS CAST(n AS STRING) || '-abcdefghijklmnopqrstuvwxyz-0123456789')
           WITH ('connector' = 'datagen', 'rows-per-second' = '{rows_per_second}', 'number-of-rows' = '{rows}',
                 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{last}');
         CREATE TABLE pairs (k BIGINT, pad STRING)
           WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'csv');
         INSERT INTO pairs SELECT DISTINCT k, pad FROM events;",
        out = out.display()
    )
}

fn expected(rows: u32) -> Vec<String> {
    let mut lines: Vec<String> =
        (0..rows).map(|n| format!("{},{n}-abcdefghijklmnopqrstuvwxyz-0123456789", n % 1000)).collect();
    lines.sort();
    lines
}

fn number(job: &Value, field: &str) -> u64 {
    job[field].as_u64().unwrap_or_else(|| panic!("no number '{field}' in {job:#}"))
}

fn s3_options(s3: &S3Server) -> Vec<String> {
    [
        "execution.checkpointing.interval=300 ms",
        "execution.checkpointing.dir=s3p://flink/checkpoints",
        "restart-strategy.exponential-delay.initial-backoff=10 ms",
        "restart-strategy.exponential-delay.max-backoff=200 ms",
        "s3.path.style.access=true",
        "s3.access-key=access",
        "s3.secret-key=secret",
        "s3.max-error-retries=1",
        "s3.max-retry-time=500 ms",
    ]
    .iter()
    .map(|option| (*option).to_owned())
    .chain([format!("s3.endpoint={}", s3.endpoint())])
    .collect()
}

fn start(taskmanagers: usize, options: &[String], more: &[&str]) -> Cluster {
    let all: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Cluster::start(taskmanagers, 1, &all)
}

fn away(s3: &S3Server) {
    s3.inject(Fault {
        method: String::new(),
        path_contains: String::new(),
        times: usize::MAX,
        kind: FaultKind::Status(503),
    });
}

#[test]
fn a_job_runs_on_while_the_object_store_is_away_as_long_as_it_may() {
    let s3 = S3Server::start("flink", "access", "secret");
    let cluster = start(1, &s3_options(&s3), &["execution.checkpointing.tolerable-failed-checkpoints=1000"]);
    let out = cluster.folder.path().join("out");
    let id = cluster.insert(&script(&out, 30_000, 2_000));
    let before = cluster.wait_for(&id, "a checkpoint completes", |job| number(job, "last_checkpoint") > 0);
    away(&s3);
    let during = cluster.wait_for(&id, "three checkpoints have failed", |job| number(job, "checkpoints_failed") >= 3);
    assert_eq!((during["state"].as_str(), number(&during, "restarts")), (Some("RUNNING"), 0), "{during:#}");
    s3.set_random(None);
    let last = number(&during, "last_checkpoint").max(number(&before, "last_checkpoint"));
    cluster.wait_for(&id, "checkpoints complete again", |job| number(job, "last_checkpoint") > last);
    let job = cluster.wait_finished(&id);
    assert_eq!(number(&job, "restarts"), 0, "{job:#}");
    assert_eq!(lines_below(&out), expected(30_000));
}

#[test]
fn too_many_failed_checkpoints_restart_the_job_and_say_which_key_allows_more() {
    let s3 = S3Server::start("flink", "access", "secret");
    let cluster = start(1, &s3_options(&s3), &["execution.checkpointing.tolerable-failed-checkpoints=2"]);
    let out = cluster.folder.path().join("out");
    let id = cluster.insert(&script(&out, 20_000, 2_000));
    cluster.wait_for(&id, "a checkpoint completes", |job| number(job, "last_checkpoint") > 0);
    away(&s3);
    let job = cluster.wait_for(&id, "the job has restarted", |job| number(job, "restarts") > 0);
    assert!(number(&job, "checkpoints_failed") >= 3, "{job:#}");
    let cause = job["root_cause"].as_str().unwrap();
    assert!(cause.contains("tolerable-failed-checkpoints is 2"), "{cause}");
    s3.set_random(None);
    cluster.wait_finished(&id);
    assert_eq!(lines_below(&out), expected(20_000));
}

/// The TaskManager has a small disk of its own, in a mount namespace: nothing is left of it when the
/// process has ended.
#[test]
fn a_full_disk_is_named_and_the_job_goes_on_once_there_is_room() {
    if std::env::var_os(hurtig_testkit::OPT_OUT).is_some() {
        return eprintln!("left out: {} is set", hurtig_testkit::OPT_OUT);
    }
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = format!("execution.checkpointing.dir={}", folder.path().join("checkpoints").display());
    let options = [
        "execution.checkpointing.interval=200 ms",
        "restart-strategy.exponential-delay.initial-backoff=50 ms",
        "restart-strategy.exponential-delay.max-backoff=200 ms",
        &checkpoints,
    ];
    let cluster = Cluster::start(0, 1, &options);
    let disk = cluster.folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let address = cluster.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "sh", "-ec", "mount -t tmpfs -o size=48m tmpfs \"$0\"; exec \"$@\""]).arg(&disk);
    command.arg(hurtig().get_program()).arg("taskmanager").env("RUST_LOG", "warn");
    let own = [
        format!("jobmanager.rpc.address={host}"),
        format!("jobmanager.rpc.port={port}"),
        "taskmanager.resource-id=small".to_owned(),
        format!("process.taskmanager.working-dir={}", disk.display()),
    ];
    for option in options.iter().map(|o| (*o).to_owned()).chain(own) {
        command.args(["-D", &option]);
    }
    let taskmanager = Process::launch(command, cluster.folder.path().join("small.log"), true);
    // As the TaskManager sees it.
    let inside =
        |path: &Path| Path::new(&format!("/proc/{}/root", taskmanager.pid())).join(path.strip_prefix("/").unwrap());
    let ballast = inside(&disk).join("ballast");

    let out = cluster.folder.path().join("out");
    let id = cluster.insert(&script(&out, 60_000, 6_000));
    cluster.wait_for(&id, "a checkpoint completes", |job| number(job, "last_checkpoint") > 0);
    // Fills it to the last byte.
    let filled = Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", ballast.display())).output();
    assert!(!filled.unwrap().status.success(), "the disk must be full now");
    let start = Instant::now();
    loop {
        let job = cluster.job(&id);
        let told = job["root_cause"].as_str().unwrap_or_default().contains("No space left on device")
            || taskmanager.logged().contains("No space left on device")
            || cluster.jobmanager.logged().contains("No space left on device");
        if told {
            break;
        }
        assert_ne!(job["state"], "FINISHED", "the input was too short to fill the disk");
        assert!(start.elapsed() < PATIENCE, "nobody says that the disk is full: {job:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::remove_file(&ballast).unwrap();
    let job = cluster.wait_finished(&id);
    assert_eq!(lines_below(&out), expected(60_000), "{job:#}");
}

/// Of two TaskManagers one is stopped for longer than the heartbeat timeout while it takes part in a
/// checkpoint. When it wakes up it is a stranger.
#[test]
fn a_taskmanager_that_wakes_up_too_late_commits_nothing_and_registers_anew() {
    let s3 = S3Server::start("flink", "access", "secret");
    let more = [
        "heartbeat.interval=300 ms",
        "heartbeat.timeout=2 s",
        "execution.checkpointing.tolerable-failed-checkpoints=1000",
    ];
    let mut options = s3_options(&s3);
    options.retain(|o| !o.starts_with("s3.max"));
    // Two slots are needed and each TaskManager has one: without the sleeper the job waits.
    let cluster = start(2, &options, &more);
    let out = cluster.folder.path().join("out");
    let sql = script(&out, 20_000, 2_000).replace("'parallelism.default' = '1'", "'parallelism.default' = '2'");
    let id = cluster.insert(&sql);
    cluster
        .wait_for(&id, "a checkpoint completes", |job| job["state"] == "RUNNING" && number(job, "last_checkpoint") > 0);
    // Uploads are slow now, so that it sleeps in the middle of one.
    s3.inject(Fault {
        method: "PUT".into(),
        path_contains: "shared".into(),
        times: usize::MAX,
        kind: FaultKind::Stall(Duration::from_millis(700)),
    });
    std::thread::sleep(Duration::from_millis(600));
    let sleeper = &cluster.taskmanagers[1];
    sleeper.pause();
    let lost = cluster.wait_for(&id, "it is given up", |job| number(job, "restarts") > 0);
    assert!(lost["root_cause"].as_str().unwrap().contains("heartbeat.timeout"), "{lost:#}");
    s3.set_random(None);
    let committed = lines_below(&out);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(lines_below(&out), committed, "nothing is committed while the job waits for slots");
    sleeper.resume();
    let again = cluster.wait_running(&id);
    assert!(subtasks(&again).any(|s| s["taskmanager"] == "tm-1"), "{again:#}");
    assert!(subtasks(&again).all(|s| s["attempt"].as_u64() >= Some(1)), "{again:#}");
    let log = sleeper.logged();
    assert!(log.contains("lost the JobManager"), "{log}");
    cluster.wait_finished(&id);
    assert_eq!(lines_below(&out), expected(20_000));
}

/// Each checkpoint of changed state has an object of its own, however small.
const NOT_INLINE: &str = "execution.checkpointing.data-inline-threshold=0 b";

/// Damages the latest checkpoint of a job in S3 while its TaskManager is away, and waits until `until`
/// holds. Gives that checkpoint and the job.
fn restore_from_damaged(
    cluster: &mut Cluster,
    s3: &S3Server,
    id: &str,
    until: impl Fn(&Value) -> bool,
) -> (u64, Value) {
    let mut least = 3;
    loop {
        cluster.wait_for(id, "checkpoints complete", |job| number(job, "last_checkpoint") >= least);
        let restarts = number(&cluster.job(id), "restarts");
        cluster.kill_taskmanager(0);
        let lost = cluster.wait_for(id, "it is lost", |job| number(job, "restarts") > restarts);
        let last = number(&lost, "last_checkpoint");
        let (shared, own) = (format!("/shared/{last}-"), format!("/chk-{last}/"));
        let of_last = |key: &str| !key.ends_with("_metadata") && (key.contains(&shared) || key.contains(&own));
        let objects = s3.objects("flink").into_iter().map(|(key, _)| key).filter(|key| of_last(key));
        let damaged = objects.filter(|key| s3.corrupt("flink", key)).count();
        cluster.restart_taskmanager(0);
        if damaged > 0 {
            return (last, cluster.wait_for(id, "the restore has failed and what follows has happened", until));
        }
        // Nothing had changed since the one before.
        least = last + 3;
    }
}

#[test]
fn a_damaged_object_is_named_with_what_would_help() {
    let s3 = S3Server::start("flink", "access", "secret");
    let mut cluster = start(1, &s3_options(&s3), &["execution.checkpointing.num-retained=3", NOT_INLINE]);
    let out = cluster.folder.path().join("out");
    let id = cluster.insert(&script(&out, 1_000_000, 2_000));
    let damaged = |job: &Value| job["root_cause"].as_str().unwrap().contains("is not what the checkpoint says");
    let (last, job) = restore_from_damaged(&mut cluster, &s3, &id, damaged);
    let cause = job["root_cause"].as_str().unwrap();
    assert!(
        cause.contains(&format!("checkpoint {last} cannot be restored: 's3p://flink/checkpoints/{id}/")),
        "{cause}"
    );
    assert!(
        cause.contains("hurtig.recovery.fall-back-to-earlier-checkpoint lets the job restore checkpoint"),
        "{cause}"
    );
}

#[test]
fn a_damaged_checkpoint_is_given_up_for_the_one_before_it_where_that_is_allowed() {
    let s3 = S3Server::start("flink", "access", "secret");
    let more =
        ["execution.checkpointing.num-retained=3", "hurtig.recovery.fall-back-to-earlier-checkpoint=true", NOT_INLINE];
    let mut cluster = start(1, &s3_options(&s3), &more);
    let out = cluster.folder.path().join("out");
    let id = cluster.insert(&script(&out, 20_000, 2_000));
    let (last, job) = restore_from_damaged(&mut cluster, &s3, &id, |job| {
        job["root_cause"].as_str().unwrap().contains("the checkpoint before it is restored")
            && job["state"] == "RUNNING"
            && subtasks(job).all(|s| s["state"] == "RUNNING")
    });
    let restored = number(&job, "restored_checkpoint");
    assert!(restored > 0 && restored < last, "restored {restored} although {last} was damaged: {job:#}");
    cluster.wait_finished(&id);
    // What was committed with the damaged checkpoint is there twice, nothing is missing.
    let mut lines = lines_below(&out);
    lines.dedup();
    assert_eq!(lines, expected(20_000));
}
