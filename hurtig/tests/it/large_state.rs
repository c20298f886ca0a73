//! State that is larger than the memory its TaskManager may use, in a whole cluster: with checkpoints, and
//! with a failure from which it is restored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hurtig::arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use hurtig::arrow::datatypes::Int64Type;
use hurtig::extensions::{FnSink, FnSource};
use hurtig::sql::SqlResult;
use hurtig::{Batch, EmbeddedCluster};

const KEYS: i64 = 60_000;
const BATCHES: i64 = 120;
const ROWS: i64 = 2_000;

/// Rows of the `n`-th batch: every key comes with several values.
fn rows(n: i64) -> (Int64Array, Int64Array) {
    let key = |i: i64| (n * ROWS + i).wrapping_mul(7_919).rem_euclid(KEYS);
    (Int64Array::from_iter_values((0..ROWS).map(key)), Int64Array::from_iter_values((0..ROWS).map(|i| n * 31 + i)))
}

fn records((keys, values): (Int64Array, Int64Array)) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(keys) as Arc<dyn Array>, true),
        ("v", Arc::new(values), true),
    ])
    .unwrap()
}

/// What the query gives in the end.
fn expected() -> Groups {
    let mut groups: Groups = BTreeMap::new();
    for n in 0..BATCHES {
        let (keys, values) = rows(n);
        for (key, value) in keys.values().iter().zip(values.values()) {
            let group = groups.entry(*key).or_insert((0, 0, i64::MIN));
            *group = (group.0 + 1, group.1 + value, group.2.max(*value));
        }
    }
    groups
}

/// Count, sum and greatest value by key.
type Groups = BTreeMap<i64, (i64, i64, i64)>;

/// Keeps the last row of each key; a restart writes some again.
fn last_rows() -> (Arc<parking_lot::Mutex<Groups>>, FnSink) {
    let rows: Arc<parking_lot::Mutex<Groups>> = Arc::default();
    let kept = Arc::clone(&rows);
    let sink = FnSink::new(move |batch: &Batch| {
        let column = |i: usize| batch.column(i).as_primitive::<Int64Type>();
        let mut kept = kept.lock();
        for row in (0..batch.num_rows()).filter(|&row| batch.kind(row).sign() > 0) {
            kept.insert(column(0).value(row), (column(1).value(row), column(2).value(row), column(3).value(row)));
        }
        Ok(())
    });
    (rows, sink)
}

#[tokio::test]
async fn a_group_by_larger_than_its_memory_is_right_across_checkpoints_and_a_failure() {
    let failed = Arc::new(AtomicBool::new(false));
    let fails_once = Arc::clone(&failed);
    let source = FnSource::new(move |subtask| {
        let (mine, failed) = (subtask.index == 0, Arc::clone(&fails_once));
        Ok((0..BATCHES).filter(move |_| mine).map(move |n| {
            // Slow enough for several checkpoints.
            std::thread::sleep(std::time::Duration::from_millis(10));
            if n == BATCHES * 2 / 3 && !failed.swap(true, Ordering::SeqCst) {
                return Err("the cable is out".into());
            }
            Ok(records(rows(n)))
        }))
    });
    let folder = tempfile::tempdir().unwrap();
    let (rows, sink) = last_rows();
    let cluster = EmbeddedCluster::builder()
        .configure("parallelism.default", "1")
        // The least that there is: 4 MB for operators and RocksDB each. A key takes about 120 bytes.
        .configure("taskmanager.memory.process.size", "32m")
        .configure("execution.checkpointing.interval", "150 ms")
        .configure("execution.checkpointing.dir", format!("file://{}", folder.path().join("chk").display()))
        .configure("state.backend.rocksdb.localdir", folder.path().join("db").display().to_string())
        .configure("restart-strategy.type", "fixed-delay")
        .configure("restart-strategy.fixed-delay.attempts", "3")
        .configure("restart-strategy.fixed-delay.delay", "10 ms")
        .source("numbers", source)
        .sink("last", sink)
        .start()
        .await
        .unwrap();
    let mut session = cluster.sql(hurtig::Configuration::default()).unwrap();
    session.execute("CREATE TABLE numbers (k BIGINT, v BIGINT) WITH ('connector' = 'numbers')").await.unwrap();
    let sink = "CREATE TABLE results (k BIGINT, n BIGINT, s BIGINT, m BIGINT) WITH ('connector' = 'last')";
    session.execute(sink).await.unwrap();
    let query = "INSERT INTO results SELECT k, COUNT(*), SUM(v), MAX(v) FROM numbers GROUP BY k";
    let SqlResult::Job(job) = session.execute(query).await.unwrap() else { panic!("an INSERT is a job") };
    let status = job.wait().await.unwrap();
    assert_eq!((status.state.as_str(), status.restarts), ("FINISHED", 1));
    assert!(status.checkpoints_completed > 1, "{status:?}");
    assert!(folder.path().join("db").exists());
    let (rows, expected) = (rows.lock().clone(), expected());
    assert_eq!(rows.len(), expected.len());
    assert!(rows == expected, "some of {} keys differ", rows.len());
}
