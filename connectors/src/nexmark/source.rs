//! The reader of one subtask.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use hurtig_engine::Batch;
use hurtig_engine::EngineError;
use hurtig_engine::batch::TARGET_ROWS;
use hurtig_engine::clock::Clock;
use hurtig_engine::operator::{Collector, OperatorContext, OperatorSnapshot};
use hurtig_engine::registry::SourceSpec;
use hurtig_engine::source::{SourceReader, SourceStatus};

use super::NexmarkOptions;
use super::columns::TableColumns;
use super::model::Kind;
use super::progress::Progress;
use crate::error::Result;
use crate::numbered::NumberedSplits;
use crate::pacing::Pacer;

/// Events that go to a subtask in a row.
const BLOCK: u64 = 1000;
/// Rows of a batch with texts, which then has about a megabyte.
const TEXT_ROWS: usize = TARGET_ROWS / 2;

/// See the module documentation.
pub struct NexmarkReader {
    options: NexmarkOptions,
    columns: TableColumns,
    output: SchemaRef,
    /// Numbers of events that make about one batch.
    step: u64,
    splits: Option<NumberedSplits>,
    pacer: Option<Pacer>,
    /// Set where events are emitted at their times.
    clock: Option<Arc<dyn Clock>>,
    progress: Option<Arc<Progress>>,
}

impl NexmarkReader {
    /// A reader of the columns that `spec` asks for.
    pub fn new(options: NexmarkOptions, spec: &SourceSpec) -> Result<NexmarkReader> {
        TableColumns::new(options.kind, &spec.schema)?;
        let schema = match &spec.projection {
            Some(projection) => spec.schema.project(projection),
            None => spec.schema.clone(),
        };
        let columns = TableColumns::new(options.kind, &schema)?;
        let rows = if columns.has_texts() { TEXT_ROWS } else { TARGET_ROWS } as u64;
        let model = &options.model;
        let step = match columns.kind() {
            None => rows,
            Some(Kind::Person) => rows * model.round() / model.persons,
            Some(Kind::Auction) => rows * model.round() / model.auctions,
            Some(Kind::Bid) => rows * model.round() / model.bids.max(1),
        };
        let output = schema.to_arrow();
        Ok(NexmarkReader { options, columns, output, step, splits: None, pacer: None, clock: None, progress: None })
    }

    /// Tells `progress` what it emits.
    pub fn observed(mut self, progress: Arc<Progress>) -> NexmarkReader {
        self.progress = Some(progress);
        self
    }

    /// How many of `step` events may be emitted now, the first of them being number `next`; otherwise the
    /// wall-clock time (ms) to come back.
    fn due(&mut self, step: u64, next: u64) -> Result<u64, i64> {
        if let Some(clock) = &self.clock {
            let model = &self.options.model;
            let (now, first) = (clock.now_ms(), model.time_ms(next));
            if first > now {
                return Err(first);
            }
            // Those of the block whose times have come too: a later block begins later.
            let since = (now - model.base_time_ms) as f64;
            let reached = (since * model.events_per_second as f64 / 1000.0) as u64 + 1;
            let block = BLOCK - next % BLOCK;
            return Ok(step.min(block).min(reached.saturating_sub(next).max(1)));
        }
        match &mut self.pacer {
            Some(pacer) => Ok(step.min(pacer.due()? as u64)),
            None => Ok(step),
        }
    }
}

fn count(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|r| r.end - r.start).sum()
}

impl SourceReader for NexmarkReader {
    fn open(&mut self, context: OperatorContext) -> hurtig_engine::Result<()> {
        let end = self.options.events.unwrap_or(u64::MAX / 2);
        self.splits = Some(NumberedSplits::open(&context, BLOCK, end, 0)?);
        if self.options.on_time {
            self.clock = Some(context.clock);
        } else if self.options.limited {
            let rate = self.options.model.events_per_second as f64 / f64::from(context.task.parallelism.max(1));
            self.pacer = Some(Pacer::new(rate, context.clock));
        }
        Ok(())
    }

    fn poll(&mut self, out: &mut dyn Collector) -> hurtig_engine::Result<SourceStatus> {
        let splits = self.splits.as_ref().ok_or_else(|| EngineError::Internal("the reader is not open".into()))?;
        let Some(next) = splits.next_number() else { return Ok(SourceStatus::Finished) };
        let step = match self.due(self.step, next) {
            Ok(due) => due,
            Err(until_ms) => return Ok(SourceStatus::Pending { until_ms: Some(until_ms) }),
        };
        let ranges = self.splits.as_mut().map(|splits| splits.take(step)).unwrap_or_default();
        if let Some(pacer) = &mut self.pacer {
            pacer.emitted(count(&ranges) as usize);
        }
        let events = self.options.model.events(&ranges, self.columns.kind());
        let columns = self.columns.build(&self.options.model, &events)?;
        let options = RecordBatchOptions::new().with_row_count(Some(events.numbers.len()));
        let records = RecordBatch::try_new_with_options(self.output.clone(), columns, &options)?;
        out.emit(Batch::inserts(records));
        if let Some(progress) = &self.progress {
            progress.emitted(count(&ranges));
        }
        Ok(SourceStatus::Ready)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> hurtig_engine::Result<OperatorSnapshot> {
        Ok(self.splits.as_ref().map(NumberedSplits::snapshot).unwrap_or_default())
    }
}
