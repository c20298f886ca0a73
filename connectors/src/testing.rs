//! What this crate's tests share.

use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use hurtig_engine::clock::{Clock, VirtualClock};
use hurtig_engine::executor::{BackgroundExecutor, InlineExecutor};
use hurtig_engine::operator::{Collector, OperatorContext, OperatorSnapshot, RestoredState, TaskInfo};
use hurtig_engine::source::{SourceReader, SourceStatus};
use hurtig_engine::{Batch, EngineError};
use hurtig_graph::config::Configuration;
use hurtig_graph::connector::Options;
use hurtig_graph::{AttemptId, DataType, JobId, LogicalType, RowField, RowSchema};
use hurtig_state::backend::KeyedBackend;
use hurtig_state::storage::ObjectStores;

use crate::formats::calendar::TimestampStyle;
use crate::formats::decoder::{RecordDecoder, RecordError, ScanLimits};
use crate::formats::json::{JsonDecoder, JsonOptions, NullKey};
use crate::render::changelog::ChangelogRenderer;

/// Options from pairs.
pub fn options(pairs: &[(&str, &str)]) -> Options {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// A schema from `a INT, b STRING NOT NULL`.
pub fn schema(columns: &str) -> RowSchema {
    let row = DataType::parse(&format!("ROW<{columns}>")).unwrap();
    let LogicalType::Row(fields) = row.logical else { unreachable!() };
    RowSchema::new(fields.into_iter().map(|(name, ty)| RowField::new(name, ty)).collect())
}

/// Options of the json format by default.
pub fn json_options() -> JsonOptions {
    JsonOptions {
        fail_on_missing_field: false,
        ignore_parse_errors: false,
        style: TimestampStyle::Sql,
        null_key: NullKey::Fail,
        null_key_literal: "null".into(),
        plain_decimals: false,
        ignore_null_fields: false,
    }
}

/// All records of `text`.
pub fn decode(decoder: &mut dyn RecordDecoder, schema: &RowSchema, text: &[u8]) -> Result<RecordBatch, RecordError> {
    let limits = ScanLimits { at_end: true, until: usize::MAX, rows: usize::MAX };
    decoder.scan(text, 0, limits)?;
    let rows = decoder.pending();
    let columns = decoder.finish(text)?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.to_arrow(), columns, &options).unwrap())
}

/// Rows from JSON lines.
pub fn json_rows(schema: &RowSchema, text: &str) -> RecordBatch {
    decode(&mut JsonDecoder::new(schema, json_options()), schema, text.as_bytes()).unwrap()
}

/// Rows as the changelog renderer shows them, without what is the same in each.
pub fn shown(schema: &RowSchema, records: &RecordBatch) -> Vec<String> {
    let mut out = Vec::new();
    ChangelogRenderer::new(schema.clone()).rows(&Batch::inserts(records.clone()), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let inner = |line: &str| {
        line.strip_prefix(r#"{"op":"+I","row":["#).and_then(|l| l.strip_suffix("]}")).unwrap_or(line).to_owned()
    };
    text.lines().map(inner).collect()
}

/// Messages that an operator sent to its coordinator.
pub type Messages = Arc<Mutex<Vec<Vec<u8>>>>;

/// What a test wants to be different in a context.
pub struct ContextOptions {
    pub subtask: u32,
    pub attempt: u32,
    pub parallelism: u32,
    pub clock: Arc<dyn Clock>,
    pub executor: Arc<dyn BackgroundExecutor>,
    pub configuration: Configuration,
    pub restored: RestoredState,
}

impl Default for ContextOptions {
    fn default() -> Self {
        ContextOptions {
            subtask: 0,
            attempt: 0,
            parallelism: 1,
            clock: VirtualClock::at(0),
            executor: Arc::new(InlineExecutor),
            configuration: Configuration::default(),
            restored: RestoredState::default(),
        }
    }
}

/// A context, and the messages sent through it.
pub fn context(options: ContextOptions) -> (OperatorContext, Messages) {
    let messages = Messages::default();
    let sent = Arc::clone(&messages);
    let attempt =
        AttemptId { job: JobId::from_u128(7), vertex: "v".into(), subtask: options.subtask, attempt: options.attempt };
    let context = OperatorContext {
        task: Arc::new(TaskInfo {
            attempt,
            job_name: "job".into(),
            vertex_name: "vertex".into(),
            parallelism: options.parallelism,
            max_parallelism: 128,
        }),
        uid: "uid".into(),
        inputs: Vec::new(),
        output: RowSchema::default(),
        configuration: Arc::new(options.configuration),
        clock: options.clock,
        executor: options.executor,
        waker: Arc::new(|| {}),
        keyed: Arc::new(KeyedBackend::detached((0, 127), 128)),
        stores: Arc::new(ObjectStores::default()),
        restored: options.restored,
        counters: Arc::default(),
        to_coordinator: Arc::new(move |payload| sent.lock().unwrap().push(payload)),
        collect: Arc::new(|_| {}),
    };
    (context, messages)
}

/// State to restore from a snapshot.
pub fn restored(checkpoint: u64, snapshots: Vec<OperatorSnapshot>) -> RestoredState {
    let mut lists: Vec<(String, Vec<Vec<u8>>)> = Vec::new();
    for (name, elements) in snapshots.into_iter().flat_map(|s| s.lists) {
        match lists.iter_mut().find(|(n, _)| *n == name) {
            Some((_, all)) => all.extend(elements),
            None => lists.push((name, elements)),
        }
    }
    RestoredState { checkpoint, lists, watermark_ms: None }
}

/// Keeps what is emitted.
#[derive(Default)]
pub struct Collected {
    pub batches: Vec<Batch>,
}

impl Collector for Collected {
    fn emit(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.batches.push(batch);
        }
    }
    fn watermark(&mut self, _watermark_ms: i64) {}
    fn idle(&mut self, _idle: bool) {}
}

impl Collected {
    /// All rows, as [`shown`].
    pub fn rows(&self, schema: &RowSchema) -> Vec<String> {
        self.batches.iter().flat_map(|b| shown(schema, b.records())).collect()
    }
}

/// Polls until the reader neither has rows nor waits for the executor; at most `polls` times.
pub fn poll(reader: &mut dyn SourceReader, polls: usize, out: &mut Collected) -> Result<SourceStatus, EngineError> {
    let mut status = SourceStatus::Ready;
    for _ in 0..polls {
        status = reader.poll(out)?;
        if status != SourceStatus::Ready {
            break;
        }
    }
    Ok(status)
}
