//! Savepoints from outside: a job is stopped with one and goes on from it, at another parallelism, after
//! the savepoint was moved, from a retained checkpoint; what does not fit is refused before it starts.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::harness::{Cluster, hurtig, lines_below, subtasks};

const ROWS: u32 = 40_000;

/// Two window aggregations into files, over a sequence of numbers at `rate` rows a second.
fn script(settings: &str, out: &Path, rate: u32) -> String {
    format!(
        "{settings}
         CREATE TABLE events (n BIGINT, k AS n % 97,
           ts AS TIMESTAMPADD(SECOND, CAST(n / 100 AS INT), TIMESTAMP '2024-01-01 00:00:00.000'),
           WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
           WITH ('connector' = 'datagen', 'rows-per-second' = '{rate}', 'number-of-rows' = '{ROWS}',
                 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{last}');
         CREATE TABLE windows (k BIGINT, n BIGINT, total BIGINT, w TIMESTAMP(3))
           WITH ('connector' = 'filesystem', 'path' = '{out}/windows', 'format' = 'csv');
         CREATE TABLE totals (w TIMESTAMP(3), windows BIGINT, total BIGINT)
           WITH ('connector' = 'filesystem', 'path' = '{out}/totals', 'format' = 'csv');
         EXECUTE STATEMENT SET BEGIN
           INSERT INTO windows SELECT k, COUNT(*), SUM(n), window_start
             FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
           INSERT INTO totals SELECT window_start, COUNT(DISTINCT k), SUM(n)
             FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
         END;",
        last = ROWS - 1,
        out = out.display()
    )
}

fn set(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(key, value)| format!("SET '{key}' = '{value}';\n")).collect()
}

fn run(arguments: &[&str]) -> Output {
    hurtig().args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The standard output of a command that succeeds, without the line's end.
fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&succeed(arguments)).unwrap()
}

/// Waits until a job has rows and a checkpoint.
fn wait_for_checkpoint(cluster: &Cluster, id: &str) -> Value {
    cluster.wait_for(id, "a checkpoint with rows completes", |job| {
        job["state"] == "RUNNING"
            && job["checkpoints_completed"].as_u64().unwrap() > 0
            && subtasks(job).filter_map(|s| s["rows_in"].as_u64()).sum::<u64>() > 3_000
    })
}

/// The output of an undisturbed run of `rate` rows a second.
fn undisturbed(cluster: &Cluster) -> PathBuf {
    let out = cluster.folder.path().join("undisturbed");
    let id = cluster.insert(&script(&set(&[("parallelism.default", "2")]), &out, 1_000_000));
    cluster.wait_finished(&id);
    out
}

fn assert_equal(one: &Path, other: &Path) {
    for table in ["windows", "totals"] {
        let (one, other) = (lines_below(&one.join(table)), lines_below(&other.join(table)));
        assert!(!other.is_empty());
        assert_eq!(one, other, "{table}");
    }
}

#[test]
fn a_stopped_job_goes_on_exactly_once_at_another_parallelism() {
    let s3 = hurtig_testkit::S3Server::start("flink", "access", "secret");
    let endpoint = format!("s3.endpoint={}", s3.endpoint());
    let options = [
        "execution.checkpointing.interval=500 ms",
        "execution.checkpointing.dir=s3p://flink/checkpoints",
        "execution.checkpointing.savepoint-dir=s3p://flink/savepoints",
        "s3.path.style.access=true",
        "s3.access-key=access",
        "s3.secret-key=secret",
        &endpoint,
    ];
    let cluster = Cluster::start(2, 2, &options);
    let address = cluster.address();
    let out = cluster.folder.path().join("out");
    let parallelism = |p| [("parallelism.default", p)];
    let first = cluster.insert(&script(&set(&parallelism("2")), &out, 2_000));
    wait_for_checkpoint(&cluster, &first);
    let path = succeed(&["jobs", "stop", &first, "--cluster", &address]);
    assert!(path.starts_with(&format!("s3p://flink/savepoints/savepoint-{}-", &first[..6])), "{path}");
    assert_eq!(cluster.job(&first)["state"], "FINISHED");
    let so_far = lines_below(&out.join("windows")).len();

    let start = [("execution.state-recovery.path", path.as_str()), ("parallelism.default", "3")];
    let second = cluster.insert(&script(&set(&start), &out, 2_000));
    let job = wait_for_checkpoint(&cluster, &second);
    assert!(job["restored_checkpoint"].as_u64().unwrap() > 0);
    // Once more, from metadata to fewer.
    let path = succeed(&["jobs", "stop", &second, "--savepoint-path", "s3p://flink/other", "--cluster", &address]);
    let pointer = format!("{path}/_metadata");
    let start = [("execution.state-recovery.path", pointer.as_str()), ("parallelism.default", "1")];
    let third = cluster.insert(&script(&set(&start), &out, 1_000_000));
    cluster.wait_finished(&third);
    assert!(so_far < lines_below(&out.join("windows")).len());
    assert_equal(&out, &undisturbed(&cluster));
    assert!(s3.count("PUT", "/checkpoints/") > 0);
}

#[test]
fn a_stop_that_fails_harms_nothing_and_one_that_drains_fires_all_windows() {
    let folder = tempfile::tempdir().unwrap();
    let dir = format!("execution.checkpointing.dir={}/checkpoints", folder.path().display());
    let cluster = Cluster::start(1, 2, &["execution.checkpointing.interval=300 ms", &dir]);
    let address = cluster.address();
    let out = cluster.folder.path().join("out");
    let id = cluster.insert(&script(&set(&[("parallelism.default", "2")]), &out, 1_500));
    wait_for_checkpoint(&cluster, &id);
    let nowhere = run(&["jobs", "stop", &id, "--cluster", &address]);
    assert!(!nowhere.status.success() && text(&nowhere).contains("savepoint-dir"), "{}", text(&nowhere));
    for drain in [&[][..], &["--drain"][..]] {
        let before = cluster.job(&id)["last_checkpoint"].as_u64().unwrap();
        let arguments = ["jobs", "stop", &id, "--savepoint-path", "/proc/nowhere", "--cluster", &address];
        let failed = run(&[&arguments[..], drain].concat());
        assert!(!failed.status.success() && text(&failed).contains("the savepoint failed"), "{}", text(&failed));
        cluster.wait_for(&id, "the job runs on", |job| {
            job["state"] == "RUNNING"
                && subtasks(job).all(|s| s["state"] == "RUNNING")
                && job["last_checkpoint"].as_u64().unwrap() > before + 1
        });
    }
    let savepoints = folder.path().join("savepoints");
    let target = savepoints.display().to_string();
    let path = succeed(&["jobs", "stop", &id, "--drain", "--savepoint-path", &target, "--cluster", &address]);
    assert!(Path::new(&path).join("_metadata").exists());
    let job = cluster.job(&id);
    assert_eq!(job["state"], "FINISHED");
    // Every row that was read is in a window that has fired, and all windows are whole.
    let count =
        |lines: &[String]| -> u64 { lines.iter().map(|l| l.split(',').nth(1).unwrap().parse::<u64>().unwrap()).sum() };
    let drained = lines_below(&out.join("windows"));
    let shown = json(&["savepoints", "show", &path, "--json"]);
    let elements = shown["vertices"][0]["operators"][0]["lists"][0]["elements"].as_u64();
    assert!(elements.is_some(), "{shown}");
    let read = count(&drained);
    assert!(read > 1_000 && read < u64::from(ROWS), "{read}");
    let whole = lines_below(&undisturbed(&cluster).join("windows"));
    let partial = drained.iter().filter(|line| !whole.contains(line)).count();
    assert!(partial <= 97 * 2, "only the last windows of the two sources are cut short: {partial}");
    // Nothing is left of the checkpoints of a finished job.
    let left = crate::harness::files_below(&folder.path().join("checkpoints").join(&id));
    assert_eq!(left.len(), 1, "HEAD: {left:?}");
}

#[test]
fn a_cancelled_job_leaves_its_checkpoint_from_which_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let dir = format!("execution.checkpointing.dir={}", folder.path().display());
    let retention = "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION";
    let cluster = Cluster::start(1, 2, &["execution.checkpointing.interval=300 ms", &dir, retention]);
    let address = cluster.address();
    let out = cluster.folder.path().join("out");
    let parallelism = ("parallelism.default", "2");
    let first = cluster.insert(&script(&set(&[parallelism]), &out, 2_000));
    wait_for_checkpoint(&cluster, &first);
    succeed(&["jobs", "cancel", &first, "--cluster", &address]);
    cluster.wait_for(&first, "the job is cancelled", |job| job["state"] == "CANCELED");
    let retained: Vec<PathBuf> = std::fs::read_dir(folder.path().join(&first))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("_metadata").exists())
        .collect();
    let [chk] = &retained[..] else { panic!("{retained:?}") };
    let chk_text = chk.display().to_string();

    let start = [parallelism, ("execution.state-recovery.path", chk_text.as_str())];
    let second = cluster.insert(&script(&set(&start), &out, 1_000_000));
    cluster.wait_finished(&second);
    assert_equal(&out, &undisturbed(&cluster));
    assert!(chk.join("_metadata").exists(), "it was not claimed");

    let other = cluster.folder.path().join("other");
    let claim = [&start[..], &[("execution.state-recovery.claim-mode", "CLAIM")]].concat();
    let third = cluster.insert(&script(&set(&claim), &other, 2_000));
    cluster
        .wait_for(&third, "its first checkpoints complete", |job| job["checkpoints_completed"].as_u64().unwrap() > 2);
    assert!(!chk.exists(), "it was claimed and is subsumed");
    succeed(&["jobs", "cancel", &third, "--cluster", &address]);
}

const GROUPED: &str = "
    CREATE TABLE a (n BIGINT, k AS n % 10) WITH ('connector' = 'datagen', 'rows-per-second' = '2000',
      'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '100000000');
    CREATE TABLE b (k BIGINT, v BIGINT) WITH ('connector' = 'blackhole');";

#[test]
fn savepoints_are_listed_shown_moved_refused_and_disposed_of() {
    let folder = tempfile::tempdir().unwrap();
    let savepoints = folder.path().join("savepoints").display().to_string();
    let configured = format!("execution.checkpointing.savepoint-dir={savepoints}");
    let cluster = Cluster::start(1, 6, &[&configured]);
    let address = cluster.address();
    let job = cluster.insert(&format!(
        "SET 'parallelism.default' = '2'; {GROUPED} INSERT INTO b SELECT k, SUM(n) FROM a GROUP BY k;"
    ));
    cluster.wait_running(&job);
    // Without periodic checkpoints.
    let path =
        json(&["savepoints", "trigger", &job, "--json", "--cluster", &address])["path"].as_str().unwrap().to_owned();
    let second = succeed(&["jobs", "savepoint", &job, "--target", &savepoints, "--cluster", &address]);
    succeed(&["jobs", "cancel", &job, "--cluster", &address]);

    let listed = json(&["savepoints", "list", "-D", &configured, "--json"]);
    let paths: Vec<&str> = listed.as_array().unwrap().iter().map(|s| s["path"].as_str().unwrap()).collect();
    assert_eq!(paths, [&path, &second]);
    assert_eq!(listed[0]["job_id"], job.as_str());
    let shown = json(&["savepoints", "show", &path, "--json"]);
    assert_eq!(shown["savepoint"], true);
    let operators = || shown["vertices"].as_array().unwrap().iter().flat_map(|v| v["operators"].as_array().unwrap());
    let group = operators().find(|o| o["cells"].as_array().is_some_and(|cells| !cells.is_empty())).unwrap();
    assert_eq!(group["cells"][0]["key_schema"], "INT");
    let source = operators().find(|o| o["kind"] == "source").unwrap();
    assert!(source["lists"][0]["elements"].as_u64().unwrap() > 0, "{shown}");
    let plain = succeed(&["savepoints", "show", &path]);
    assert!(plain.contains("keyed  groups: key (INT)") && plain.contains("key groups 0 to 63"), "{plain}");

    let moved = folder.path().join("elsewhere");
    std::fs::rename(&path, &moved).unwrap();
    let moved = moved.display().to_string();
    let refused = |settings: &[(&str, &str)], query: &str, reasons: &[&str]| {
        let all = [settings, &[("execution.state-recovery.path", moved.as_str())]].concat();
        let output = cluster.sql(&format!("{}{GROUPED}{query}", set(&all)));
        let said = text(&output);
        assert!(!output.status.success(), "{said}");
        reasons.iter().for_each(|reason| assert!(said.contains(reason), "{reason}: {said}"));
    };
    let sum = "INSERT INTO b SELECT k, SUM(n) FROM a GROUP BY k;";
    let uid = group["uid"].as_str().unwrap();
    refused(
        &[],
        "INSERT INTO b SELECT k, MAX(n) FROM a GROUP BY k;",
        &[uid, "state cell 'groups'", "value (", "and is key"],
    );
    refused(&[], "INSERT INTO b SELECT k, n FROM a;", &[uid, "the job lacks", "--allow-non-restored-state"]);
    refused(&[("parallelism.default", "129")], sum, &["parallelism 129", "max parallelism 128"]);
    refused(&[("pipeline.max-parallelism", "64")], sum, &["max parallelism 64", "128"]);
    let nothing = cluster.sql(&format!("SET 'execution.state-recovery.path' = '{path}'; {GROUPED}{sum}"));
    assert!(text(&nothing).contains("there is no savepoint or checkpoint at"), "{}", text(&nothing));
    assert_eq!(
        json(&["jobs", "list", "--json", "--cluster", &address]).as_array().unwrap().len(),
        1,
        "none was started"
    );

    for (settings, query) in [
        (&[("parallelism.default", "3")][..], sum),
        (&[("execution.state-recovery.ignore-unclaimed-state", "true")][..], "INSERT INTO b SELECT k, n FROM a;"),
    ] {
        let all = [settings, &[("execution.state-recovery.path", moved.as_str())]].concat();
        let id = cluster.insert(&format!("{}{GROUPED}{query}", set(&all)));
        let job = cluster.wait_running(&id);
        assert!(job["restored_checkpoint"].as_u64().unwrap() > 0);
        succeed(&["jobs", "cancel", &id, "--cluster", &address]);
        cluster.wait_for(&id, "the job is cancelled", |job| job["state"] == "CANCELED");
    }
    succeed(&["savepoints", "dispose", &second]);
    assert!(!Path::new(&second).exists());
    assert!(!run(&["savepoints", "dispose", &second]).status.success());
}
