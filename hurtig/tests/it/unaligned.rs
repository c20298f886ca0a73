//! Checkpoints whose barriers do not wait: unaligned ones, from the start or after a timeout, complete
//! under backpressure with the rows in flight; at-least-once ones hold back no input. A job that is
//! restored from one loses nothing, and doubles nothing unless at least once is what was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hurtig::arrow::array::AsArray;
use hurtig::arrow::datatypes::Int64Type;
use hurtig::extensions::FnSink;
use hurtig::sql::SqlResult;
use hurtig::{Batch, Configuration, EmbeddedCluster};
use parking_lot::Mutex;

const ROWS: i64 = 1_500_000;
const KEYS: i64 = 100_000;
/// In the name of a file of rows in flight.
const IN_FLIGHT: &str = "-channels-";

/// One run of `SELECT k, SUM(n), COUNT(*) ... GROUP BY k` into a sink.
#[derive(Clone, Copy)]
struct Run {
    settings: &'static [(&'static str, &'static str)],
    rows_per_second: i64,
    /// How long the sink takes for each batch until it fails.
    sleep_ms: u64,
    /// The sink fails once, when so many checkpoints with such a file have been seen: the older ones
    /// are complete then.
    fails_after: Option<(&'static str, usize)>,
    /// Rows of a second source, which finishes early.
    short: i64,
}

impl Default for Run {
    fn default() -> Run {
        Run { settings: &[], rows_per_second: 300_000, sleep_ms: 1, fails_after: None, short: 0 }
    }
}

/// Sums by key as a sink has last heard of them.
#[derive(Clone)]
struct Sink {
    run: Run,
    checkpoints: PathBuf,
    sums: Arc<Mutex<BTreeMap<i64, (i64, i64)>>>,
    seen: Arc<Mutex<BTreeSet<String>>>,
    failed: Arc<AtomicBool>,
}

impl Sink {
    fn write(&self, batch: &Batch) -> Result<(), &'static str> {
        if !self.failed.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(self.run.sleep_ms));
            let mut seen = self.seen.lock();
            let (name, count) = self.run.fails_after.unwrap_or((IN_FLIGHT, usize::MAX));
            seen.extend(checkpoints_with(&self.checkpoints, name));
            if seen.len() >= count && !self.failed.swap(true, Ordering::SeqCst) {
                return Err("once, on purpose");
            }
        }
        let column = |i: usize| batch.column(i).as_primitive::<Int64Type>();
        let (keys, sums, counts) = (column(0), column(1), column(2));
        let mut all = self.sums.lock();
        for row in (0..batch.num_rows()).filter(|&row| batch.kind(row).sign() == 1) {
            all.insert(keys.value(row), (sums.value(row), counts.value(row)));
        }
        Ok(())
    }
}

/// Folders of checkpoints that have a file of such a name.
fn checkpoints_with(folder: &Path, name: &str) -> Vec<String> {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    let jobs = entries(folder);
    let checkpoints = jobs.flat_map(|job| entries(&job).collect::<Vec<_>>());
    let has = |chk: &PathBuf| entries(chk).any(|file| file.to_string_lossy().contains(name));
    checkpoints.filter(has).map(|chk| chk.display().to_string()).collect()
}

/// The job's last checkpoint, and the sink when it has finished.
async fn finish(run: Run) -> (u64, Sink) {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink {
        run,
        checkpoints: folder.path().to_owned(),
        sums: Arc::default(),
        seen: Arc::default(),
        failed: Arc::default(),
    };
    let writer = sink.clone();
    let mut cluster = EmbeddedCluster::builder()
        .task_managers(2)
        .slots(1)
        .configure("execution.checkpointing.interval", "100 ms")
        .configure("execution.checkpointing.dir", format!("file://{}", folder.path().display()))
        .configure("restart-strategy.type", "fixed-delay")
        .configure("restart-strategy.fixed-delay.attempts", "1")
        .configure("restart-strategy.fixed-delay.delay", "0 ms");
    for (key, value) in run.settings {
        cluster = cluster.configure(*key, *value);
    }
    let cluster =
        cluster.sink("slow", FnSink::new(move |batch| writer.write(batch).map_err(Into::into))).start().await.unwrap();
    let mut session =
        cluster.sql(Configuration::from_map([("parallelism.default".to_owned(), "2".to_owned())].into())).unwrap();
    for (name, rows) in [("a", ROWS), ("short", run.short.max(1))] {
        let (last, rate) = (rows - 1, run.rows_per_second);
        session
            .execute(&format!(
                "CREATE TABLE {name} (n BIGINT, k AS n % {KEYS}) WITH ('connector' = 'datagen',
                   'number-of-rows' = '{rows}', 'rows-per-second' = '{rate}', 'fields.n.kind' = 'sequence',
                   'fields.n.start' = '0', 'fields.n.end' = '{last}')"
            ))
            .await
            .unwrap();
    }
    session.execute("CREATE TABLE b (k BIGINT, s BIGINT, c BIGINT) WITH ('connector' = 'slow')").await.unwrap();
    let union = if run.short > 0 { "UNION ALL SELECT k, n FROM short" } else { "" };
    let insert = format!("INSERT INTO b SELECT k, SUM(n), COUNT(*) FROM (SELECT k, n FROM a {union}) GROUP BY k");
    let SqlResult::Job(job) = session.execute(&insert).await.unwrap() else { panic!("no job") };
    let status = job.wait().await.unwrap();
    let restarts = u64::from(run.fails_after.is_some());
    assert_eq!((status.state.as_str(), status.restarts), ("FINISHED", restarts as _), "{}", status.root_cause);
    assert_eq!(status.restored_checkpoint > 0, run.fails_after.is_some());
    assert_eq!(sink.sums.lock().len() as i64, KEYS);
    (status.checkpoints_completed, sink)
}

/// Keys whose sum and count are not those of all rows once.
fn wrong(sink: &Sink) -> Vec<(i64, (i64, i64))> {
    let per_key = ROWS / KEYS;
    let expected = |k: i64| {
        let (sum, count) = ((0..per_key).map(|i| k + i * KEYS).sum::<i64>(), per_key);
        if k < sink.run.short { (sum + k, count + 1) } else { (sum, count) }
    };
    sink.sums.lock().iter().filter(|(k, sum)| **sum != expected(**k)).take(5).map(|(k, sum)| (*k, *sum)).collect()
}

const UNALIGNED: (&str, &str) = ("execution.checkpointing.unaligned.enabled", "true");
const TIMEOUT: &str = "execution.checkpointing.aligned-checkpoint-timeout";
const BACKPRESSURED: Run = Run {
    settings: &[UNALIGNED],
    rows_per_second: 100_000_000,
    sleep_ms: 40,
    fails_after: Some((IN_FLIGHT, 2)),
    short: 0,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_restored_from_an_unaligned_checkpoint_loses_and_doubles_nothing() {
    let settings = &[UNALIGNED];
    let run = Run { settings, ..BACKPRESSURED };
    assert_eq!(wrong(&finish(run).await.1), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_becomes_unaligned_after_its_timeout_loses_and_doubles_nothing() {
    let settings = &[UNALIGNED, (TIMEOUT, "30 ms")];
    let run = Run { settings, ..BACKPRESSURED };
    assert_eq!(wrong(&finish(run).await.1), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_backpressure_checkpoints_stay_aligned_and_store_no_rows() {
    let settings = &[UNALIGNED, (TIMEOUT, "10 min")];
    let run = Run { settings, sleep_ms: 0, ..Run::default() };
    let (completed, sink) = finish(run).await;
    assert_eq!(wrong(&sink), []);
    assert!(completed >= 2, "{completed}");
    assert_eq!(*sink.seen.lock(), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_at_least_once_job_loses_no_row() {
    let settings = &[UNALIGNED, ("execution.checkpointing.mode", "AT_LEAST_ONCE")];
    let run = Run { settings, fails_after: Some(("_metadata", 2)), rows_per_second: 150_000, ..Run::default() };
    let (_, sink) = finish(run).await;
    let fewer: Vec<_> =
        sink.sums.lock().iter().filter(|(_, (_, count))| *count < ROWS / KEYS).take(5).map(|(k, s)| (*k, *s)).collect();
    assert_eq!(fewer, [], "rows may count twice, none is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_exactly_once_from_a_checkpoint_in_which_a_source_had_finished() {
    // The short source ends with the first checkpoint that covers all its rows.
    let run = Run { fails_after: Some(("_metadata", 3)), rows_per_second: 150_000, short: 1_000, ..Run::default() };
    assert_eq!(wrong(&finish(run).await.1), []);
}
