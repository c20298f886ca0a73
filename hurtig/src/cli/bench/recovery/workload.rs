//! The job under measurement: a log with numbered rows, an aggregation with much state, and a probe.
//!
//! The log stands for an external one: rows become available by the wall clock, whether anybody
//! reads them or not, so a job that was down has something to catch up with. What is available, and
//! whether its reader is to fail, comes from a file that the bench command writes. The rows of a part
//! of the log go through the keys of that part again and again, so every key comes equally often and
//! in order, and the aggregation's COUNT(*) follows from the number of the row: a smaller one has lost
//! state, a larger one has seen rows twice. The probe checks that and writes a line a batch to standard
//! output, where the bench command reads it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{Int64Type, SchemaRef};
use hurtig::server::Extensions;
use hurtig_connectors::random::bits;
use hurtig_connectors::{Connectors, SinkConnector, SourceConnector};
use hurtig_engine::batch::RowKind;
use hurtig_engine::clock::Clock;
use hurtig_engine::registry::{SinkSpec, SourceSpec};
use hurtig_engine::source::{SourceReader, SourceStatus};
use hurtig_engine::{Batch, Collector, EngineError, Flow, Operator, OperatorContext, OperatorSnapshot};
use hurtig_graph::RowSchema;
use hurtig_graph::connector::{ConnectorError, Options, SinkInfo, SourceInfo};
use serde::{Deserialize, Serialize};

/// Name of the source connector.
const LOG: &str = "recovery-log";
/// Name of the sink connector.
const PROBE: &str = "recovery-probe";
/// Random bytes in a row; with its key and counters an entry of the state is somewhat larger.
pub const PAYLOAD: usize = 240;
/// Parts of the log, that subtasks share.
const SPLITS: u64 = 128;
/// Rows of a part in a row.
const BLOCK: u64 = 64;
/// Rows of a batch: about a megabyte.
const ROWS: usize = 4096;
/// How often the file is read, and how long a reader without rows waits.
const LOOK_MS: i64 = 5;
const STATE: &str = "splits";
/// What lines of the probe begin with.
const LINE: &str = "probe ";

/// What processes of the bench know beyond what is built in.
pub fn extensions() -> Extensions {
    Extensions::with_connectors(add_to(Connectors::default()))
}

/// `connectors` with those of the bench.
pub fn add_to(connectors: Connectors) -> Connectors {
    connectors.with_source(LOG, Arc::new(Log)).with_sink(PROBE, Arc::new(Probe))
}

/// The job, in SQL.
pub fn script(control: &Path, keys: u64) -> String {
    format!(
        "CREATE TABLE log (k BIGINT, n BIGINT, p BYTES)
           WITH ('connector' = '{LOG}', 'control' = '{}', 'keys' = '{keys}');
         CREATE TABLE seen (k BIGINT, c BIGINT, n BIGINT, p BYTES, PRIMARY KEY (k) NOT ENFORCED)
           WITH ('connector' = '{PROBE}', 'keys' = '{keys}');
         INSERT INTO seen SELECT k, COUNT(*), MAX(n), LAST_VALUE(p) FROM log GROUP BY k;",
        control.display()
    )
}

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// `None`: every row is available.
    pub schedule: Option<Schedule>,
    /// The first reader fails when this changes.
    pub failure: u64,
}

/// When rows become available.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// So many were available at `since_ms`.
    pub base: u64,
    /// Milliseconds since 1970.
    pub since_ms: i64,
    /// Rows a second from then on.
    pub per_second: f64,
}

impl Schedule {
    /// Rows that are available.
    pub fn available(&self, now_ms: i64) -> u64 {
        let more = (now_ms - self.since_ms).max(0) as f64 * self.per_second / 1000.0;
        self.base + more as u64
    }

    /// How long before `now_ms` row `n` became available.
    pub fn age_ms(&self, n: u64, now_ms: i64) -> i64 {
        let due = self.since_ms as f64 + (n as f64 - self.base as f64) * 1000.0 / self.per_second;
        now_ms - due as i64
    }
}

impl Control {
    /// Puts it in the place of what the file says.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let unfinished = path.with_extension("new");
        std::fs::write(&unfinished, serde_json::to_vec(self)?)?;
        Ok(std::fs::rename(unfinished, path)?)
    }

    fn read(path: &Path) -> hurtig_engine::Result<Control> {
        let context = || format!("cannot read {}", path.display());
        let bytes = std::fs::read(path).map_err(|source| EngineError::Io { context: context(), source })?;
        serde_json::from_slice(&bytes).map_err(|e| EngineError::Validation(format!("{}: {e}", context())))
    }
}

fn option<'a>(options: &'a Options, name: &str) -> Result<&'a str, ConnectorError> {
    options.get(name).map(String::as_str).ok_or_else(|| ConnectorError::validation(format!("{name} is missing")))
}

fn keys(options: &Options) -> Result<u64, ConnectorError> {
    let keys = option(options, "keys")?.parse().ok().filter(|&keys| keys > 0);
    keys.ok_or_else(|| ConnectorError::validation("keys: write a number above 0"))
}

fn checked<T>(result: Result<T, ConnectorError>) -> hurtig_engine::Result<T> {
    result.map_err(|e| EngineError::Validation(e.message))
}

struct Log;

impl SourceConnector for Log {
    fn info(&self, options: &Options, _schema: &RowSchema) -> Result<SourceInfo, ConnectorError> {
        option(options, "control")?;
        keys(options)?;
        Ok(SourceInfo { bounded: false, projection_pushdown: false, changelog: false })
    }

    fn reader(&self, spec: &SourceSpec) -> hurtig_engine::Result<Box<dyn SourceReader>> {
        Ok(Box::new(Reader {
            path: PathBuf::from(checked(option(&spec.options, "control"))?),
            keys: checked(keys(&spec.options))?,
            output: spec.schema.to_arrow(),
            running: None,
        }))
    }
}

struct Reader {
    path: PathBuf,
    keys: u64,
    output: SchemaRef,
    running: Option<Running>,
}

struct Running {
    splits: Splits,
    control: Control,
    /// When the file is read next.
    look_ms: i64,
    /// The subtask that fails on request.
    fails: bool,
    clock: Arc<dyn Clock>,
}

/// Next row of each part, smallest first.
#[derive(Debug, Default)]
struct Splits(BinaryHeap<Reverse<(u64, u64)>>);

impl Splits {
    fn of_subtask(subtask: u64, parallelism: u64) -> Splits {
        let mine = (0..SPLITS).filter(|split| split % parallelism.max(1) == subtask);
        Splits(mine.map(|split| Reverse((split * BLOCK, split))).collect())
    }

    fn restored(elements: &[Vec<u8>]) -> hurtig_engine::Result<Splits> {
        let decode = |element: &Vec<u8>| match <[u8; 16]>::try_from(element.as_slice()) {
            Ok(bytes) => {
                let whole = u128::from_le_bytes(bytes);
                Ok(Reverse((whole as u64, (whole >> 64) as u64)))
            }
            Err(_) => Err(EngineError::Validation("the position of the log in the checkpoint is corrupt".into())),
        };
        Ok(Splits(elements.iter().map(decode).collect::<hurtig_engine::Result<_>>()?))
    }

    fn elements(&self) -> Vec<Vec<u8>> {
        let encode = |Reverse((next, split)): &Reverse<(u64, u64)>| {
            (u128::from(*next) | u128::from(*split) << 64).to_le_bytes().to_vec()
        };
        self.0.iter().map(encode).collect()
    }

    /// The next rows below `end`, about [`ROWS`] at most.
    fn take(&mut self, end: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < ROWS {
            let Some(&Reverse((next, split))) = self.0.peek().filter(|Reverse((next, _))| *next < end) else { break };
            let block_end = (next / BLOCK + 1) * BLOCK;
            let to = block_end.min(end);
            numbers.extend(next..to);
            let after = if to == block_end { to + (SPLITS - 1) * BLOCK } else { to };
            self.0.pop();
            self.0.push(Reverse((after, split)));
        }
        numbers
    }
}

/// The key of row `n`, and how often it has come with it.
fn key_of(n: u64, keys: u64) -> (u64, u64) {
    let keys = keys.div_ceil(SPLITS);
    let split = n / BLOCK % SPLITS;
    let position = n / (BLOCK * SPLITS) * BLOCK + n % BLOCK;
    (split * keys + position % keys, position / keys + 1)
}

impl SourceReader for Reader {
    fn open(&mut self, context: OperatorContext) -> hurtig_engine::Result<()> {
        let (subtask, parallelism) = (context.task.attempt.subtask, context.task.parallelism);
        let splits = if context.restored.checkpoint > 0 {
            Splits::restored(context.restored.list(STATE))?
        } else {
            Splits::of_subtask(u64::from(subtask), u64::from(parallelism))
        };
        let control = Control::read(&self.path)?;
        self.running = Some(Running { splits, control, look_ms: 0, fails: subtask == 0, clock: context.clock });
        Ok(())
    }

    fn poll(&mut self, out: &mut dyn Collector) -> hurtig_engine::Result<SourceStatus> {
        let running = self.running.as_mut().ok_or_else(|| EngineError::Internal("the reader is not open".into()))?;
        let now_ms = running.clock.now_ms();
        if now_ms >= running.look_ms {
            running.look_ms = now_ms + LOOK_MS;
            let control = Control::read(&self.path)?;
            if running.fails && control.failure != running.control.failure {
                return Err(EngineError::Runtime("the bench command wants this task to fail".into()));
            }
            running.control = control;
        }
        let end = running.control.schedule.map_or(u64::MAX / 2, |schedule| schedule.available(now_ms));
        let numbers = running.splits.take(end);
        if numbers.is_empty() {
            return Ok(SourceStatus::Pending { until_ms: Some(now_ms + LOOK_MS) });
        }
        out.emit(Batch::inserts(rows(&numbers, self.keys, &self.output)?));
        Ok(SourceStatus::Ready)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> hurtig_engine::Result<OperatorSnapshot> {
        let elements = self.running.as_ref().map(|running| running.splits.elements()).unwrap_or_default();
        Ok(OperatorSnapshot { lists: vec![(STATE.to_owned(), elements)], ..Default::default() })
    }
}

fn rows(numbers: &[u64], keys: u64, schema: &SchemaRef) -> hurtig_engine::Result<RecordBatch> {
    let key = |n: &u64| bits(key_of(*n, keys).0, 0) as i64;
    let mut payload = Vec::with_capacity(numbers.len() * PAYLOAD);
    for &n in numbers {
        let mut state = bits(n, 1);
        for _ in 0..PAYLOAD / 8 {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            payload.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
        }
    }
    let offsets = OffsetBuffer::from_repeated_length(PAYLOAD, numbers.len());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(numbers.iter().map(key).collect::<Int64Array>()),
        Arc::new(numbers.iter().map(|&n| n as i64).collect::<Int64Array>()),
        Arc::new(BinaryArray::try_new(offsets, Buffer::from_vec(payload), None)?),
    ];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

struct Probe;

impl SinkConnector for Probe {
    fn info(&self, options: &Options, _schema: &RowSchema) -> Result<SinkInfo, ConnectorError> {
        keys(options)?;
        Ok(SinkInfo { accepts_updates: true, wants_update_before: false })
    }

    fn writer(&self, spec: &SinkSpec) -> hurtig_engine::Result<Box<dyn Operator>> {
        Ok(Box::new(Prober { keys: checked(keys(&spec.options))?, of: (0, 0) }))
    }
}

struct Prober {
    keys: u64,
    /// Subtask and attempt.
    of: (u32, u32),
}

/// What the probe has seen of one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Of the sink.
    pub subtask: u32,
    /// Of the sink.
    pub attempt: u32,
    /// Rows.
    pub rows: u64,
    /// Smallest and largest row number.
    pub numbers: (u64, u64),
    /// Rows that could not have their value without what came before the restart: those that are not
    /// the first of their key.
    pub with_state: u64,
    /// Rows with a wrong value.
    pub wrong: u64,
}

impl Seen {
    fn line(&self) -> String {
        let Seen { subtask, attempt, rows, numbers: (first, last), with_state, wrong } = self;
        format!("{LINE}{subtask} {attempt} {rows} {first} {last} {with_state} {wrong}\n")
    }

    /// Reads a line of the probe.
    pub fn parse(line: &str) -> Option<Seen> {
        let mut words = line.strip_prefix(LINE)?.split(' ').map(str::parse::<u64>);
        let mut next = || words.next()?.ok();
        Some(Seen {
            subtask: next()? as u32,
            attempt: next()? as u32,
            rows: next()?,
            numbers: (next()?, next()?),
            with_state: next()?,
            wrong: next()?,
        })
    }
}

impl Operator for Prober {
    fn open(&mut self, context: OperatorContext) -> hurtig_engine::Result<()> {
        self.of = (context.task.attempt.subtask, context.task.attempt.attempt);
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, _out: &mut dyn Collector) -> hurtig_engine::Result<Flow> {
        let count = batch.records().column(1).as_primitive::<Int64Type>();
        let number = batch.records().column(2).as_primitive::<Int64Type>();
        let (subtask, attempt) = self.of;
        let mut seen = Seen { subtask, attempt, rows: 0, numbers: (u64::MAX, 0), with_state: 0, wrong: 0 };
        for row in 0..count.len() {
            if !matches!(batch.kind(row), RowKind::Insert | RowKind::UpdateAfter) {
                continue;
            }
            let (count, n) = (count.value(row) as u64, number.value(row) as u64);
            seen.rows += 1;
            seen.numbers = (seen.numbers.0.min(n), seen.numbers.1.max(n));
            seen.with_state += u64::from(count > 1);
            seen.wrong += u64::from(count != key_of(n, self.keys).1);
        }
        if seen.rows > 0 {
            let mut out = std::io::stdout().lock();
            let written = out.write_all(seen.line().as_bytes()).and_then(|()| out.flush());
            written.map_err(|source| EngineError::Io { context: "the probe's line".into(), source })?;
        }
        Ok(Flow::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read_once_also_after_a_change_of_parallelism() {
        let mut splits = [Splits::of_subtask(0, 2), Splits::of_subtask(1, 2)];
        let mut numbers: Vec<u64> = splits.iter_mut().flat_map(|s| s.take(20_000)).collect();
        let elements: Vec<Vec<u8>> = splits.iter().flat_map(Splits::elements).collect();
        for part in elements.chunks(elements.len() / 4) {
            let mut splits = Splits::restored(part).unwrap();
            loop {
                let more = splits.take(20_000);
                if more.is_empty() {
                    break;
                }
                numbers.extend(more);
            }
        }
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..20_000));
    }

    #[test]
    fn every_key_comes_equally_often() {
        let mut counts = std::collections::BTreeMap::<u64, u64>::new();
        for n in 0..3 * 256 * BLOCK {
            let (key, count) = key_of(n, 128 * BLOCK);
            *counts.entry(key).or_default() += 1;
            assert_eq!(counts[&key], count, "row {n}");
        }
        assert_eq!(
            (counts.len() as u64, counts.values().min(), counts.values().max()),
            (128 * BLOCK, Some(&6), Some(&6))
        );
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let seen = Seen { subtask: 1, attempt: 2, rows: 3, numbers: (4, 5), with_state: 6, wrong: 7 };
        assert_eq!(Seen::parse(seen.line().trim_end()), Some(seen));
        assert_eq!(Seen::parse("probe 1 2"), None);
    }

    #[test]
    fn rows_age_by_the_schedule() {
        let schedule = Schedule { base: 100, since_ms: 5_000, per_second: 1000.0 };
        assert_eq!((schedule.available(4_000), schedule.available(6_000)), (100, 1100));
        assert_eq!(schedule.age_ms(600, 6_000), 500);
    }
}
