//! The reader of one subtask.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use hurtig_engine::Batch;
use hurtig_engine::EngineError;
use hurtig_engine::batch::TARGET_ROWS;
use hurtig_engine::operator::{Collector, OperatorContext, OperatorSnapshot};
use hurtig_engine::registry::SourceSpec;
use hurtig_engine::source::{SourceReader, SourceStatus};

use super::NexmarkOptions;
use super::columns::TableColumns;
use super::model::Kind;
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
        Ok(NexmarkReader { output: schema.to_arrow(), columns, options, step, splits: None, pacer: None })
    }
}

impl SourceReader for NexmarkReader {
    fn open(&mut self, context: OperatorContext) -> hurtig_engine::Result<()> {
        let end = self.options.events.unwrap_or(u64::MAX / 2);
        self.splits = Some(NumberedSplits::open(&context, BLOCK, end, 0)?);
        if self.options.limited {
            let rate = self.options.model.events_per_second as f64 / f64::from(context.task.parallelism.max(1));
            self.pacer = Some(Pacer::new(rate, context.clock));
        }
        Ok(())
    }

    fn poll(&mut self, out: &mut dyn Collector) -> hurtig_engine::Result<SourceStatus> {
        let splits = self.splits.as_mut().ok_or_else(|| EngineError::Internal("the reader is not open".into()))?;
        if splits.is_finished() {
            return Ok(SourceStatus::Finished);
        }
        let mut step = self.step;
        if let Some(pacer) = &mut self.pacer {
            match pacer.due() {
                Ok(due) => step = step.min(due as u64),
                Err(until_ms) => return Ok(SourceStatus::Pending { until_ms: Some(until_ms) }),
            }
        }
        let ranges = splits.take(step);
        if let Some(pacer) = &mut self.pacer {
            pacer.emitted(ranges.iter().map(|r| (r.end - r.start) as usize).sum());
        }
        let events = self.options.model.events(&ranges, self.columns.kind());
        let columns = self.columns.build(&self.options.model, &events)?;
        let options = RecordBatchOptions::new().with_row_count(Some(events.numbers.len()));
        let records = RecordBatch::try_new_with_options(self.output.clone(), columns, &options)?;
        out.emit(Batch::inserts(records));
        Ok(SourceStatus::Ready)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> hurtig_engine::Result<OperatorSnapshot> {
        Ok(self.splits.as_ref().map(NumberedSplits::snapshot).unwrap_or_default())
    }
}
