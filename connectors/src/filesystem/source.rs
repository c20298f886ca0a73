//! The reader of one subtask: asks the enumerator for splits and reads them one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt8Array};
use arrow::datatypes::SchemaRef;
use hurtig_engine::batch::{RowKind, TARGET_ROWS};
use hurtig_engine::executor::{BackgroundExecutor, Waker};
use hurtig_engine::operator::{Collector, OperatorContext, OperatorSnapshot};
use hurtig_engine::registry::SourceSpec;
use hurtig_engine::source::{SourceReader, SourceStatus};
use hurtig_engine::{Batch, EngineError};
use hurtig_graph::{RowField, RowSchema};

use super::columnar::ColumnarReader;
use super::fetch::{Fetcher, Producer};
use super::split::{FileSplit, Position, SplitRequest, SplitResponse, SplitState, decode, encode};
use super::text::TextReader;
use super::{FilesystemOptions, partition};
use crate::error::{Error, Result};
use crate::formats::Format;
use crate::formats::csv::CsvDecoder;
use crate::formats::json::JsonDecoder;
use crate::pacing::Pacer;

/// Name of the reader's list state: a [`SplitState`] an element.
const SPLITS: &str = "splits";

/// What reading a split gave.
pub enum Polled {
    /// Columns of the file that were asked for, all of `rows` rows.
    Rows {
        /// In the order asked for.
        columns: Vec<ArrayRef>,
        /// Number of rows.
        rows: usize,
        /// Their kinds; `None`: all are inserts.
        kinds: Option<Vec<u8>>,
    },
    /// Nothing yet; the task will be woken.
    Waiting,
    /// The split has ended.
    End,
}

/// Reads one split.
pub trait SplitReader: Send {
    /// The next rows, `max_rows` at most.
    fn poll(&mut self, max_rows: usize) -> Result<Polled>;
    /// Behind the rows given so far.
    fn position(&self) -> Position;
    /// The split.
    fn split(&self) -> &FileSplit;
}

/// What a split reader needs of its task.
pub struct SplitContext {
    executor: Arc<dyn BackgroundExecutor>,
    waker: Waker,
}

impl SplitContext {
    /// Begins to run `producer` off-thread.
    pub fn fetcher<T: Send + 'static>(&self, producer: Producer<T>) -> Fetcher<T> {
        Fetcher::new(producer, Arc::clone(&self.executor), Arc::clone(&self.waker))
    }
}

/// A split being read, and how its rows become those of the table.
struct ActiveSplit {
    reader: Box<dyn SplitReader>,
    /// For each produced column: its position in the reader's columns, or in the split's partition.
    columns: Vec<ColumnOrigin>,
}

#[derive(Clone, Copy)]
enum ColumnOrigin {
    File(usize),
    Partition(usize),
}

/// See the module documentation.
pub struct FileReader {
    options: FilesystemOptions,
    schema: RowSchema,
    projection: Vec<usize>,
    output: SchemaRef,
    context: Option<OperatorContext>,
    active: Option<ActiveSplit>,
    queued: VecDeque<SplitState>,
    requested: bool,
    no_more: bool,
    /// With the rows a second that it allows, where there is a limit.
    pacer: Option<(f64, Pacer)>,
}

impl FileReader {
    /// A reader of the columns that `spec` asks for.
    pub fn new(options: FilesystemOptions, spec: &SourceSpec) -> FileReader {
        let projection = spec.projection.clone().unwrap_or_else(|| (0..spec.schema.len()).collect());
        FileReader {
            output: spec.schema.project(&projection).to_arrow(),
            schema: spec.schema.clone(),
            projection,
            options,
            context: None,
            active: None,
            queued: VecDeque::new(),
            requested: false,
            no_more: false,
            pacer: None,
        }
    }

    /// Emits its share of the rate from now on: with fewer splits than readers some have nothing to read.
    fn share_rate(&mut self, splits: u64) -> hurtig_engine::Result<()> {
        let Some(rate) = self.options.rows_per_second else { return Ok(()) };
        let context = self.context()?;
        let readers = u64::from(context.task.parallelism).min(if splits == 0 { u64::MAX } else { splits }).max(1);
        let share = rate / readers as f64;
        if self.pacer.as_ref().is_none_or(|(of, _)| *of != share) {
            self.pacer = Some((share, Pacer::new(share, Arc::clone(&context.clock))));
        }
        Ok(())
    }

    fn context(&self) -> hurtig_engine::Result<&OperatorContext> {
        self.context.as_ref().ok_or_else(|| EngineError::Internal("the file reader is not open".into()))
    }

    fn start(&self, state: SplitState) -> hurtig_engine::Result<ActiveSplit> {
        let context = self.context()?;
        let context = SplitContext { executor: Arc::clone(&context.executor), waker: Arc::clone(&context.waker) };
        let split = state.split.ok_or_else(|| Error::Internal("a split state without a split".into()))?;
        let position = state.position.unwrap_or_default();
        // What is in the folders' names is not in the files.
        let partition = |name: &str| split.partition.iter().position(|p| p.key == name);
        let in_file: Vec<RowField> =
            self.schema.fields.iter().filter(|f| partition(&f.name).is_none()).cloned().collect();
        let in_file = RowSchema::new(in_file);
        let (mut wanted, mut columns) = (Vec::new(), Vec::new());
        for &i in &self.projection {
            let name = &self.schema.fields[i].name;
            columns.push(match partition(name) {
                Some(p) => ColumnOrigin::Partition(p),
                None => {
                    wanted.push(in_file.index_of(name).unwrap_or_default());
                    ColumnOrigin::File(wanted.len() - 1)
                }
            });
        }
        let reader: Box<dyn SplitReader> = match &self.options.format {
            Format::Json(options) => {
                let decoder = JsonDecoder::new(&in_file.project(&wanted), options.clone());
                Box::new(TextReader::new(split, position, Box::new(decoder), &context))
            }
            Format::Changes(options) => {
                let decoder = JsonDecoder::of_changes(&in_file.project(&wanted), options.clone());
                Box::new(TextReader::new(split, position, Box::new(decoder), &context))
            }
            Format::Csv(options) => {
                let decoder = CsvDecoder::new(&in_file, &wanted, options.clone());
                Box::new(TextReader::new(split, position, Box::new(decoder), &context))
            }
            Format::Parquet(options) => {
                let fields = in_file.project(&wanted).fields;
                Box::new(ColumnarReader::new(split, position, fields, options, &context))
            }
        };
        Ok(ActiveSplit { reader, columns })
    }

    fn batch(
        &self,
        active: &ActiveSplit,
        columns: &[ArrayRef],
        rows: usize,
        kinds: Option<Vec<u8>>,
    ) -> hurtig_engine::Result<Batch> {
        let mut produced = Vec::with_capacity(active.columns.len());
        for (origin, &i) in active.columns.iter().zip(&self.projection) {
            produced.push(match origin {
                ColumnOrigin::File(at) => Arc::clone(&columns[*at]),
                ColumnOrigin::Partition(at) => {
                    let value = &active.reader.split().partition[*at];
                    let ty = &self.schema.fields[i].data_type.logical;
                    partition::column(value, ty, &self.options.default_partition, rows)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.output), produced, &options)?;
        // All inserts is said by no kinds.
        let kinds = kinds.filter(|kinds| kinds.iter().any(|k| *k != RowKind::Insert as u8));
        Ok(Batch::new(records, kinds.map(UInt8Array::from)))
    }
}

impl SourceReader for FileReader {
    fn open(&mut self, context: OperatorContext) -> hurtig_engine::Result<()> {
        for element in context.restored.list(SPLITS) {
            self.queued.push_back(decode(element, "the state of a file split")?);
        }
        self.context = Some(context);
        Ok(())
    }

    fn poll(&mut self, out: &mut dyn Collector) -> hurtig_engine::Result<SourceStatus> {
        let mut max_rows = TARGET_ROWS;
        if let Some((_, pacer)) = &mut self.pacer {
            match pacer.due() {
                Ok(due) => max_rows = max_rows.min(due),
                Err(until_ms) => return Ok(SourceStatus::Pending { until_ms: Some(until_ms) }),
            }
        }
        loop {
            let Some(mut active) = self.active.take() else {
                if let Some(state) = self.queued.pop_front() {
                    let splits = state.split.as_ref().map_or(0, |split| split.of);
                    self.active = Some(self.start(state)?);
                    self.share_rate(splits)?;
                    if self.pacer.is_some() {
                        // How many rows may come is known in the next round.
                        return Ok(SourceStatus::Ready);
                    }
                    continue;
                }
                if self.no_more {
                    return Ok(SourceStatus::Finished);
                }
                if !self.requested {
                    self.requested = true;
                    (self.context()?.to_coordinator)(encode(&SplitRequest {}));
                    // An answer that came at once is seen in the next round.
                    continue;
                }
                return Ok(SourceStatus::Pending { until_ms: None });
            };
            match active.reader.poll(max_rows)? {
                Polled::End => continue,
                Polled::Waiting => {
                    self.active = Some(active);
                    return Ok(SourceStatus::Pending { until_ms: None });
                }
                Polled::Rows { columns, rows, kinds } => {
                    let batch = self.batch(&active, &columns, rows, kinds)?;
                    self.active = Some(active);
                    if let Some((_, pacer)) = &mut self.pacer {
                        pacer.emitted(rows);
                    }
                    out.emit(batch);
                    return Ok(SourceStatus::Ready);
                }
            }
        }
    }

    fn coordinator_message(&mut self, payload: &[u8]) -> hurtig_engine::Result<()> {
        let response: SplitResponse = decode(payload, "a message of the file enumerator")?;
        self.requested = false;
        match response.split {
            Some(split) => self.queued.push_back(SplitState { split: Some(split), position: None }),
            None => self.no_more = true,
        }
        Ok(())
    }

    fn snapshot(&mut self, _checkpoint: u64) -> hurtig_engine::Result<OperatorSnapshot> {
        let active = self.active.iter().map(|active| SplitState {
            split: Some(active.reader.split().clone()),
            position: Some(active.reader.position()),
        });
        let states = active.chain(self.queued.iter().cloned());
        let elements = states.map(|state| encode(&state)).collect();
        Ok(OperatorSnapshot { lists: vec![(SPLITS.to_owned(), elements)], ..OperatorSnapshot::default() })
    }

    fn close(&mut self) {
        self.active = None;
    }
}
