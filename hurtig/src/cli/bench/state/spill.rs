//! State that grows to several times the memory of its process: a GROUP BY over uniformly random keys in a
//! cluster in this process, with checkpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BinaryBuilder, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use hurtig::extensions::{FnSink, FnSource};
use hurtig::sql::SqlResult;
use hurtig::{EmbeddedCluster, Error, ErrorKind};
use hurtig_graph::config::keys;
use parking_lot::Mutex;
use serde::Serialize;

use super::checkpoints::Random;
use super::{StateArgs, parse_size};
use crate::cli::configuration;

const VALUE_BYTES: usize = 100;
const ENTRY_BYTES: u64 = 4 + 9 + 4 + 5 + VALUE_BYTES as u64;
const BATCH_ROWS: u64 = 8_192;

/// The figures.
#[derive(Debug, Serialize)]
pub struct Spill {
    pub memory_setting_bytes: u64,
    pub state_bytes: u64,
    pub keys: u64,
    pub rows: u64,
    pub seconds: f64,
    /// Rows a second in each third of the rows.
    pub rates: [f64; 3],
    pub last_over_middle: f64,
    /// The most that was resident, files in the page cache left out.
    pub peak_memory_bytes: u64,
    pub memory_ratio: f64,
    pub checkpoints: u64,
    pub last_checkpoint_bytes: u64,
}

/// Runs the job.
pub async fn measure(args: &StateArgs) -> anyhow::Result<Spill> {
    let setting = parse_size(&args.memory)?;
    let keys_count = (setting * args.factor / ENTRY_BYTES).max(1);
    let rows = keys_count * args.rounds.max(1);
    let folder = tempfile::Builder::new().prefix("hurtig-bench-").tempdir()?;
    // When each twentieth of a third was handed to the job.
    let marks: Arc<Mutex<Vec<(u64, Instant)>>> = Arc::default();
    let cluster = EmbeddedCluster::builder()
        .configuration(&configuration::load(&args.configuration)?)
        .configure(keys::TASKMANAGER_MEMORY_PROCESS.key, args.memory.clone())
        .configure(keys::PARALLELISM_DEFAULT.key, "1")
        .configure(keys::CHECKPOINTING_INTERVAL.key, "10 s")
        .configure(keys::CHECKPOINTING_DIRECTORY.key, format!("file://{}", folder.path().join("chk").display()))
        .configure(keys::ROCKSDB_LOCAL_DIR.key, folder.path().join("db").display().to_string())
        .slots(1)
        .source("random-keys", source(keys_count, rows, Arc::clone(&marks)))
        .sink("nothing", FnSink::new(|_| Ok(())))
        .start()
        .await?;
    let mut session = cluster.sql(hurtig::Configuration::default())?;
    session.execute("CREATE TABLE changes (k BIGINT, v BYTES) WITH ('connector' = 'random-keys')").await?;
    session.execute("CREATE TABLE results (k BIGINT, v BYTES) WITH ('connector' = 'nothing')").await?;
    let peak = Arc::new(AtomicU64::new(0));
    let watching = watch_memory(Arc::clone(&peak));
    let start = Instant::now();
    let query = "INSERT INTO results SELECT k, LAST_VALUE(v) FROM changes GROUP BY k";
    let SqlResult::Job(job) = session.execute(query).await? else {
        return Err(Error::new(ErrorKind::Internal, "an INSERT gave no job").into());
    };
    let status = job.wait().await?;
    let seconds = start.elapsed().as_secs_f64();
    watching.store(false, Ordering::Relaxed);
    let rates = rates(&marks.lock(), rows, start);
    let peak = peak.load(Ordering::Relaxed);
    Ok(Spill {
        memory_setting_bytes: setting,
        state_bytes: keys_count * ENTRY_BYTES,
        keys: keys_count,
        rows,
        seconds,
        rates,
        last_over_middle: rates[2] / rates[1],
        peak_memory_bytes: peak,
        memory_ratio: peak as f64 / setting as f64,
        checkpoints: status.checkpoints_completed,
        last_checkpoint_bytes: status.last_checkpoint_bytes,
    })
}

/// Rows of uniformly random keys with incompressible values.
fn source(keys: u64, rows: u64, marks: Arc<Mutex<Vec<(u64, Instant)>>>) -> FnSource {
    let fields = vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Binary, true)];
    let schema = Arc::new(Schema::new(fields));
    FnSource::new(move |subtask| {
        let (schema, marks) = (Arc::clone(&schema), Arc::clone(&marks));
        let mut random = Random(7);
        let mut sent = if subtask.index == 0 { 0 } else { rows };
        Ok(std::iter::from_fn(move || {
            if sent >= rows {
                return None;
            }
            let count = BATCH_ROWS.min(rows - sent);
            let key = Int64Array::from_iter_values((0..count).map(|_| random.below(keys) as i64));
            let mut values = BinaryBuilder::with_capacity(count as usize, count as usize * VALUE_BYTES);
            let mut value = [0; VALUE_BYTES];
            for _ in 0..count {
                value.chunks_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]));
                values.append_value(value);
            }
            sent += count;
            marks.lock().push((sent, Instant::now()));
            let columns: Vec<ArrayRef> = vec![Arc::new(key), Arc::new(values.finish())];
            Some(RecordBatch::try_new(Arc::clone(&schema), columns).map_err(Into::into))
        }))
    })
}

/// Rows a second in each third of all rows.
fn rates(marks: &[(u64, Instant)], rows: u64, start: Instant) -> [f64; 3] {
    let at = |row: u64| marks.iter().find(|(sent, _)| *sent >= row).map_or(start, |(_, at)| *at);
    let bounds = [start, at(rows / 3), at(rows / 3 * 2), at(rows)];
    [0, 1, 2].map(|i| (rows / 3) as f64 / (bounds[i + 1] - bounds[i]).as_secs_f64().max(1e-9))
}

/// Notes the most memory that is resident, files left out, until told to stop.
fn watch_memory(peak: Arc<AtomicU64>) -> Arc<AtomicBool> {
    let on = Arc::new(AtomicBool::new(true));
    let watching = Arc::clone(&on);
    std::thread::spawn(move || {
        while watching.load(Ordering::Relaxed) {
            peak.fetch_max(anonymous_memory(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    on
}

/// Resident memory of this process that is not a file's; 0 where the system does not say.
fn anonymous_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
