//! Drives one operator without a task: for tests of operators, here and in crates that bring their
//! own.
//!
//! A [`Harness`] opens an operator with a virtual clock, inline background work and a state backend,
//! and records what it emits. Rows are compared as text ([`rows_of`]).

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt8Array};
use arrow::compute::cast;
use arrow::datatypes::DataType as ArrowType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hurtig_graph::config::Configuration;
use hurtig_graph::{AttemptId, DataType, JobId, RowField, RowSchema, TimeAttribute};
use hurtig_state::backend::KeyedBackend;
use hurtig_state::storage::ObjectStores;

use crate::batch::Batch;
use crate::clock::VirtualClock;
use crate::error::Result;
use crate::executor::{BackgroundExecutor, InlineExecutor};
use crate::operator::{
    Collector, Flow, Operator, OperatorContext, OperatorCounters, OperatorSnapshot, RestoredState, TaskInfo,
};

/// What an operator emitted, in order.
#[derive(Debug, Clone)]
pub enum Emitted {
    /// Rows.
    Batch(Batch),
    /// A watermark.
    Watermark(i64),
    /// Idleness.
    Idle(bool),
}

/// Records.
#[derive(Debug, Default)]
pub struct Recorder {
    /// In order.
    pub emitted: Vec<Emitted>,
}

impl Collector for Recorder {
    fn emit(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.emitted.push(Emitted::Batch(batch));
        }
    }

    fn watermark(&mut self, watermark_ms: i64) {
        self.emitted.push(Emitted::Watermark(watermark_ms));
    }

    fn idle(&mut self, idle: bool) {
        self.emitted.push(Emitted::Idle(idle));
    }
}

/// What a [`Harness`] gives the operator.
pub struct HarnessConfig {
    /// One schema for each input.
    pub inputs: Vec<RowSchema>,
    /// The job's configuration.
    pub configuration: Configuration,
    /// The keyed state.
    pub keyed: Arc<KeyedBackend>,
    /// Non-keyed state to start from.
    pub restored: RestoredState,
    /// Runs background work.
    pub executor: Arc<dyn BackgroundExecutor>,
}

impl HarnessConfig {
    /// A fresh start over `inputs`, with state that is never written anywhere.
    pub fn fresh(inputs: Vec<RowSchema>) -> HarnessConfig {
        HarnessConfig {
            inputs,
            configuration: Configuration::default(),
            keyed: Arc::new(KeyedBackend::detached((0, 127), 128)),
            restored: RestoredState::default(),
            executor: Arc::new(InlineExecutor),
        }
    }
}

/// Drives one operator. See the [module](self).
pub struct Harness {
    /// The operator.
    pub operator: Box<dyn Operator>,
    /// Its clock.
    pub clock: Arc<VirtualClock>,
    /// Its counters.
    pub counters: Arc<OperatorCounters>,
    recorder: Recorder,
    keyed: Arc<KeyedBackend>,
}

impl Harness {
    /// Opens `operator` at time 0 of its clock.
    pub fn open(operator: Box<dyn Operator>, config: HarnessConfig) -> Result<Harness> {
        let mut operator = operator;
        let clock = VirtualClock::at(0);
        let counters = Arc::new(OperatorCounters::default());
        let job = JobId::from_u128(1);
        operator.open(OperatorContext {
            task: Arc::new(TaskInfo {
                attempt: AttemptId { job, vertex: "v".into(), subtask: 0, attempt: 0 },
                job_name: "test".into(),
                vertex_name: "test".into(),
                parallelism: 1,
                max_parallelism: config.keyed.max_parallelism(),
            }),
            uid: "operator".into(),
            inputs: config.inputs,
            output: RowSchema::default(),
            configuration: Arc::new(config.configuration),
            clock: Arc::clone(&clock) as _,
            executor: config.executor,
            waker: Arc::new(|| {}),
            keyed: Arc::clone(&config.keyed),
            stores: Arc::new(ObjectStores::default()),
            restored: config.restored,
            counters: Arc::clone(&counters),
            to_coordinator: Arc::new(|_| {}),
            collect: Arc::new(|_| {}),
        })?;
        Ok(Harness { operator, clock, counters, recorder: Recorder::default(), keyed: config.keyed })
    }

    fn drain(&mut self, flow: Flow) -> Result<()> {
        let mut flow = flow;
        while flow == Flow::More {
            flow = self.operator.resume(&mut self.recorder)?;
        }
        Ok(())
    }

    /// A batch of input `port`.
    pub fn process_on(&mut self, port: usize, batch: Batch) -> Result<()> {
        let flow = self.operator.process(port, batch, &mut self.recorder)?;
        self.drain(flow)
    }

    /// A batch of the first input.
    pub fn process(&mut self, batch: Batch) -> Result<()> {
        self.process_on(0, batch)
    }

    /// A watermark.
    pub fn watermark(&mut self, watermark_ms: i64) -> Result<()> {
        let flow = self.operator.watermark(watermark_ms, &mut self.recorder)?;
        self.drain(flow)
    }

    /// Moves the clock, then fires what is due.
    pub fn advance_clock(&mut self, ms: i64) -> Result<()> {
        use crate::clock::Clock;
        self.clock.advance(ms);
        let now = self.clock.now_ms();
        if self.operator.next_timer_ms().is_some_and(|due| due <= now) {
            let flow = self.operator.timers(now, &mut self.recorder)?;
            self.drain(flow)?;
        }
        Ok(())
    }

    /// Lets the operator go on after it was woken.
    pub fn wake(&mut self) -> Result<()> {
        use crate::clock::Clock;
        let flow = self.operator.timers(self.clock.now_ms(), &mut self.recorder)?;
        self.drain(flow)
    }

    /// The barrier of a checkpoint.
    pub fn snapshot(&mut self, checkpoint: u64) -> Result<OperatorSnapshot> {
        self.operator.prepare_barrier(checkpoint, &mut self.recorder)?;
        self.keyed.begin_checkpoint();
        self.operator.snapshot(checkpoint)
    }

    /// The end of all inputs.
    pub fn finish(&mut self) -> Result<()> {
        self.watermark(i64::MAX)?;
        let flow = self.operator.finish(&mut self.recorder)?;
        self.drain(flow)
    }

    /// What was emitted since the last call.
    pub fn take(&mut self) -> Vec<Emitted> {
        std::mem::take(&mut self.recorder.emitted)
    }

    /// The batches emitted since the last call.
    pub fn take_batches(&mut self) -> Vec<Batch> {
        let batches = self.take().into_iter().filter_map(|e| match e {
            Emitted::Batch(batch) => Some(batch),
            _ => None,
        });
        batches.collect()
    }

    /// The rows emitted since the last call, see [`rows_of`].
    pub fn take_rows(&mut self) -> Vec<String> {
        self.take_batches().iter().flat_map(rows_of).collect()
    }
}

/// The rows of a batch as `+I(a, 1, null)`.
pub fn rows_of(batch: &Batch) -> Vec<String> {
    let cells: Vec<Vec<String>> = batch.records().columns().iter().map(cells_of).collect();
    (0..batch.num_rows())
        .map(|row| {
            let row_cells: Vec<&str> = cells.iter().map(|c| c[row].as_str()).collect();
            format!("{}({})", batch.kind(row).symbol(), row_cells.join(", "))
        })
        .collect()
}

fn cells_of(column: &ArrayRef) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    match ArrayFormatter::try_new(column.as_ref(), &options) {
        Ok(formatter) => (0..column.len()).map(|i| formatter.value(i).to_string()).collect(),
        Err(e) => vec![format!("<{e}>"); column.len()],
    }
}

/// A schema from columns as `k STRING`; a column `ts TIMESTAMP(3) ROWTIME` is the time attribute.
///
/// # Errors
/// A type that cannot be read.
pub fn schema(columns: &[&str]) -> Result<RowSchema> {
    let mut fields = Vec::new();
    for column in columns {
        let (name, ty) = column.split_once(' ').unwrap_or((column, "INT"));
        let (ty, time) = match ty.strip_suffix(" ROWTIME") {
            Some(ty) => (ty, TimeAttribute::Rowtime),
            None => (ty, TimeAttribute::None),
        };
        fields.push(RowField { time, ..RowField::new(name, DataType::parse(ty)?) });
    }
    Ok(RowSchema::new(fields))
}

/// A batch from rows as [`rows_of`] writes them, times as ms since 1970. A row without a kind is an
/// insert.
///
/// # Errors
/// A value that does not fit its column.
pub fn batch(schema: &RowSchema, rows: &[impl AsRef<str>]) -> Result<Batch> {
    let mut columns: Vec<Vec<Option<&str>>> = vec![Vec::new(); schema.len()];
    let mut kinds = Vec::new();
    for row in rows {
        let row = row.as_ref();
        let (kind, cells) = row.split_once('(').unwrap_or(("", row));
        kinds.push(match kind {
            "-U" => 1,
            "+U" => 2,
            "-D" => 3,
            _ => 0_u8,
        });
        let mut cells = cells.trim_end_matches(')').split(", ");
        for column in &mut columns {
            column.push(cells.next().filter(|c| *c != "null"));
        }
    }
    let mut arrays = Vec::new();
    for (values, field) in columns.into_iter().zip(&schema.fields) {
        let text: ArrayRef = Arc::new(StringArray::from(values));
        let ty = field.data_type.logical.to_arrow();
        let text = if ty.is_temporal() { cast(&text, &ArrowType::Int64)? } else { text };
        arrays.push(cast(&text, &ty)?);
    }
    let records = super::record_batch(&schema.to_arrow(), arrays, rows.len())?;
    let kinds = kinds.iter().any(|k| *k != 0).then(|| UInt8Array::from(kinds));
    Ok(Batch::new(records, kinds))
}
