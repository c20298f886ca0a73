//! The reader of one subtask.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use hurtig_engine::batch::TARGET_ROWS;
use hurtig_engine::clock::Clock;
use hurtig_engine::operator::{Collector, OperatorContext, OperatorSnapshot};
use hurtig_engine::registry::SourceSpec;
use hurtig_engine::source::{SourceReader, SourceStatus};
use hurtig_engine::{Batch, EngineError};

use super::DatagenOptions;
use super::generator::Seed;
use crate::numbered::NumberedSplits;
use crate::pacing::Pacer;
use crate::random::bits;

/// Rows that go to a subtask in a row: few, so that slow tables use all subtasks.
const BLOCK: u64 = 16;

/// See the module documentation.
pub struct DatagenReader {
    options: DatagenOptions,
    projection: Vec<usize>,
    output: SchemaRef,
    running: Option<Running>,
}

struct Running {
    splits: NumberedSplits,
    pacer: Pacer,
    clock: Arc<dyn Clock>,
}

impl DatagenReader {
    /// A reader of the columns that `spec` asks for.
    pub fn new(options: DatagenOptions, spec: &SourceSpec) -> DatagenReader {
        let projection = spec.projection.clone().unwrap_or_else(|| (0..spec.schema.len()).collect());
        let output = spec.schema.project(&projection).to_arrow();
        DatagenReader { options, projection, output, running: None }
    }
}

impl SourceReader for DatagenReader {
    fn open(&mut self, context: OperatorContext) -> hurtig_engine::Result<()> {
        let end = self.options.rows.unwrap_or(u64::MAX / 2);
        let splits = NumberedSplits::open(&context, BLOCK, end, rand::random())?;
        let rate = self.options.rows_per_second / f64::from(context.task.parallelism.max(1));
        self.running = Some(Running { splits, pacer: Pacer::new(rate, context.clock.clone()), clock: context.clock });
        Ok(())
    }

    fn poll(&mut self, out: &mut dyn Collector) -> hurtig_engine::Result<SourceStatus> {
        let running = self.running.as_mut().ok_or_else(|| EngineError::Internal("the reader is not open".into()))?;
        if running.splits.is_finished() {
            return Ok(SourceStatus::Finished);
        }
        let due = match running.pacer.due() {
            Ok(due) => due.min(TARGET_ROWS),
            Err(until_ms) => return Ok(SourceStatus::Pending { until_ms: Some(until_ms) }),
        };
        let numbers: Vec<u64> = running.splits.take(due as u64).into_iter().flatten().collect();
        running.pacer.emitted(numbers.len());
        let (seed, now_ms) = (running.splits.seed(), running.clock.now_ms());
        let columns = self.projection.iter().map(|&i| {
            let seed = Seed { stream: bits(i as u64, seed), now_ms };
            self.options.generators[i].column(&numbers, seed)
        });
        let columns = columns.collect::<crate::error::Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        out.emit(Batch::inserts(RecordBatch::try_new_with_options(self.output.clone(), columns, &options)?));
        Ok(SourceStatus::Ready)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> hurtig_engine::Result<OperatorSnapshot> {
        Ok(self.running.as_ref().map(|running| running.splits.snapshot()).unwrap_or_default())
    }
}
