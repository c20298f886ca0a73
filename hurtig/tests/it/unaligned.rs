//! Unaligned checkpoints: under backpressure they complete with the rows in flight, and a job that is
//! restored from one loses and doubles nothing.

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

/// Sums by key as a slow sink has last heard of them. It fails once, when two checkpoints with rows
/// in flight have been seen below `checkpoints`: the older one is complete then.
#[derive(Clone)]
struct SlowSink {
    checkpoints: PathBuf,
    sums: Arc<Mutex<BTreeMap<i64, (i64, i64)>>>,
    seen: Arc<Mutex<BTreeSet<String>>>,
    failed: Arc<AtomicBool>,
}

impl SlowSink {
    fn write(&self, batch: &Batch) -> Result<(), &'static str> {
        std::thread::sleep(Duration::from_millis(15));
        if !self.failed.load(Ordering::SeqCst) {
            let mut seen = self.seen.lock();
            seen.extend(checkpoints_with_rows_in_flight(&self.checkpoints));
            if seen.len() >= 2 && !self.failed.swap(true, Ordering::SeqCst) {
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

fn checkpoints_with_rows_in_flight(folder: &Path) -> Vec<String> {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    let jobs = entries(folder);
    let checkpoints = jobs.flat_map(|job| entries(&job).collect::<Vec<_>>());
    let in_flight = |chk: &PathBuf| entries(chk).any(|file| file.to_string_lossy().contains("-channels-"));
    checkpoints.filter(in_flight).map(|chk| chk.display().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_restored_from_an_unaligned_checkpoint_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let slow = SlowSink {
        checkpoints: folder.path().to_owned(),
        sums: Arc::default(),
        seen: Arc::default(),
        failed: Arc::default(),
    };
    let writer = slow.clone();
    let cluster = EmbeddedCluster::builder()
        .task_managers(2)
        .slots(1)
        .configure("execution.checkpointing.interval", "100 ms")
        .configure("execution.checkpointing.dir", format!("file://{}", folder.path().display()))
        .configure("execution.checkpointing.unaligned.enabled", "true")
        .configure("restart-strategy.type", "fixed-delay")
        .configure("restart-strategy.fixed-delay.attempts", "1")
        .configure("restart-strategy.fixed-delay.delay", "0 ms")
        .sink("slow", FnSink::new(move |batch| writer.write(batch).map_err(Into::into)))
        .start()
        .await
        .unwrap();
    let mut session =
        cluster.sql(Configuration::from_map([("parallelism.default".to_owned(), "2".to_owned())].into())).unwrap();
    let last = ROWS - 1;
    session
        .execute(&format!(
            "CREATE TABLE a (n BIGINT, k AS n % {KEYS}) WITH ('connector' = 'datagen', 'number-of-rows' = '{ROWS}',
               'rows-per-second' = '100000000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0',
               'fields.n.end' = '{last}')"
        ))
        .await
        .unwrap();
    session.execute("CREATE TABLE b (k BIGINT, s BIGINT, c BIGINT) WITH ('connector' = 'slow')").await.unwrap();
    let insert = "INSERT INTO b SELECT k, SUM(n), COUNT(*) FROM a GROUP BY k";
    let SqlResult::Job(job) = session.execute(insert).await.unwrap() else { panic!("no job") };
    let status = job.wait().await.unwrap();
    assert_eq!((status.state.as_str(), status.restarts), ("FINISHED", 1), "{}", status.root_cause);
    assert!(status.restored_checkpoint > 0);
    let per_key = ROWS / KEYS;
    let expected = |k: i64| ((0..per_key).map(|i| k + i * KEYS).sum::<i64>(), per_key);
    let sums = slow.sums.lock();
    assert_eq!(sums.len() as i64, KEYS);
    let wrong: Vec<_> = sums.iter().filter(|(k, sum)| **sum != expected(**k)).take(5).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
