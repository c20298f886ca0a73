//! A source that reads from iterators of record batches.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use arrow::array::RecordBatch;
use hurtig_connectors::connector::SourceConnector;
use hurtig_engine::executor::Waker;
use hurtig_engine::registry::SourceSpec;
use hurtig_engine::{Batch, Collector, EngineError, OperatorContext, OperatorSnapshot, SourceReader, SourceStatus};
use hurtig_graph::RowSchema;
use hurtig_graph::connector::{ConnectorError, Options, SourceInfo};

use super::ExtensionError;

/// Batches that wait to be taken by the task.
const BUFFERED: usize = 2;
/// The name of the list state with positions.
const POSITION: &str = "position";

/// Which part of the source an iterator is for.
#[derive(Debug, Clone)]
pub struct Subtask {
    /// From 0.
    pub index: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// The table's options.
    pub options: Options,
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ExtensionError>> + Send>;
type Open = dyn Fn(&Subtask) -> Result<Batches, ExtensionError> + Send + Sync;

/// Reads record batches from an iterator, one for each subtask, on a thread of its own, so that it
/// may block. After a failure the iterator is opened again and the batches that were taken into the
/// checkpoint are skipped: it must give the same batches each time.
#[derive(Clone)]
pub struct FnSource {
    open: Arc<Open>,
    bounded: bool,
}

impl FnSource {
    /// A source that ends when its iterators do. `open` makes the iterator of a subtask.
    pub fn new<F, I>(open: F) -> FnSource
    where
        F: Fn(&Subtask) -> Result<I, ExtensionError> + Send + Sync + 'static,
        I: Iterator<Item = Result<RecordBatch, ExtensionError>> + Send + 'static,
    {
        FnSource { open: Arc::new(move |subtask| Ok(Box::new(open(subtask)?) as Batches)), bounded: true }
    }

    /// Declares that the iterators may never end.
    #[must_use]
    pub fn unbounded(mut self) -> FnSource {
        self.bounded = false;
        self
    }

    /// These batches, read by the first subtask.
    pub fn of_batches(batches: Vec<RecordBatch>) -> FnSource {
        FnSource::new(move |subtask| {
            let mine = if subtask.index == 0 { batches.clone() } else { Vec::new() };
            Ok(mine.into_iter().map(Ok))
        })
    }
}

impl SourceConnector for FnSource {
    fn info(&self, _options: &Options, _schema: &RowSchema) -> Result<SourceInfo, ConnectorError> {
        Ok(SourceInfo { bounded: self.bounded, projection_pushdown: false, changelog: false })
    }

    fn reader(&self, spec: &SourceSpec) -> hurtig_engine::Result<Box<dyn SourceReader>> {
        Ok(Box::new(Reader {
            open: self.open.clone(),
            options: spec.options.clone(),
            schema: spec.schema.clone(),
            projection: spec.projection.clone(),
            position: Position::default(),
            batches: None,
        }))
    }
}

/// How far a subtask has read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Position {
    subtask: u32,
    parallelism: u32,
    batches: u64,
}

impl Position {
    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend(self.subtask.to_le_bytes());
        bytes.extend(self.parallelism.to_le_bytes());
        bytes.extend(self.batches.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> hurtig_engine::Result<Position> {
        let bytes: [u8; 16] = bytes
            .try_into()
            .map_err(|_| EngineError::Validation("the position of a source in the checkpoint is corrupt".into()))?;
        let whole = u128::from_le_bytes(bytes);
        Ok(Position { subtask: whole as u32, parallelism: (whole >> 32) as u32, batches: (whole >> 64) as u64 })
    }
}

struct Reader {
    open: Arc<Open>,
    options: Options,
    schema: RowSchema,
    projection: Option<Vec<usize>>,
    position: Position,
    batches: Option<Receiver<Result<RecordBatch, ExtensionError>>>,
}

impl SourceReader for Reader {
    fn open(&mut self, context: OperatorContext) -> hurtig_engine::Result<()> {
        let subtask = Subtask {
            index: context.task.attempt.subtask,
            parallelism: context.task.parallelism,
            options: self.options.clone(),
        };
        self.position = Position { subtask: subtask.index, parallelism: subtask.parallelism, batches: 0 };
        for element in context.restored.list(POSITION) {
            let restored = Position::decode(element)?;
            if restored.parallelism != subtask.parallelism {
                return Err(EngineError::Validation(format!(
                    "this source cannot be rescaled: the checkpoint has {} subtasks, the job {}",
                    restored.parallelism, subtask.parallelism
                )));
            }
            if restored.subtask == subtask.index {
                self.position = restored;
            }
        }
        let (send, receive) = sync_channel(BUFFERED);
        let (open, skip, waker) = (self.open.clone(), self.position.batches, context.waker);
        std::thread::Builder::new()
            .name(format!("hurtig-source-{}", subtask.index))
            .spawn(move || {
                // Behind the end of the channel, which `feed` owns: woken before, the task would find the
                // channel empty but open, and sleep on.
                let _wake = WakeAtEnd(&waker);
                feed(&*open, &subtask, skip, send, &waker);
            })
            .map_err(|source| EngineError::Io { context: "cannot start a thread for a source".into(), source })?;
        self.batches = Some(receive);
        Ok(())
    }

    fn poll(&mut self, out: &mut dyn Collector) -> hurtig_engine::Result<SourceStatus> {
        let Some(batches) = &self.batches else { return Ok(SourceStatus::Finished) };
        match batches.try_recv() {
            Ok(Ok(records)) => {
                self.position.batches += 1;
                out.emit(Batch::inserts(conform(&records, &self.schema, self.projection.as_deref())?));
                Ok(SourceStatus::Ready)
            }
            Ok(Err(error)) => Err(EngineError::Runtime(format!("the source failed: {error}"))),
            Err(TryRecvError::Empty) => Ok(SourceStatus::Pending { until_ms: None }),
            Err(TryRecvError::Disconnected) => Ok(SourceStatus::Finished),
        }
    }

    fn snapshot(&mut self, _checkpoint: u64) -> hurtig_engine::Result<OperatorSnapshot> {
        let lists = vec![(POSITION.to_owned(), vec![self.position.encode()])];
        Ok(OperatorSnapshot { lists, ..Default::default() })
    }

    fn close(&mut self) {
        // The thread ends when it next has a batch to send.
        self.batches = None;
    }
}

/// Wakes the task when it is dropped, on every way out.
struct WakeAtEnd<'a>(&'a Waker);

impl Drop for WakeAtEnd<'_> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Sends what the iterator gives; ends when it does, or when nobody takes it any more.
fn feed(
    open: &Open,
    subtask: &Subtask,
    skip: u64,
    send: SyncSender<Result<RecordBatch, ExtensionError>>,
    waker: &Waker,
) {
    let batches = match open(subtask) {
        Ok(batches) => batches,
        Err(error) => return drop(send.send(Err(error))),
    };
    for (position, batch) in batches.enumerate() {
        if (position as u64) < skip && batch.is_ok() {
            continue;
        }
        let failed = batch.is_err();
        if send.send(batch).is_err() || failed {
            return;
        }
        waker();
    }
}

/// The batch with the columns and types that were declared.
fn conform(
    records: &RecordBatch,
    schema: &RowSchema,
    projection: Option<&[usize]>,
) -> hurtig_engine::Result<RecordBatch> {
    let declared = schema.to_arrow();
    let fits = records.num_columns() == declared.fields().len()
        && records.columns().iter().zip(declared.fields()).all(|(c, f)| c.data_type() == f.data_type());
    if !fits {
        let types: Vec<String> = records.columns().iter().map(|c| c.data_type().to_string()).collect();
        let wanted: Vec<String> = declared.fields().iter().map(|f| f.data_type().to_string()).collect();
        return Err(EngineError::Runtime(format!(
            "the source gave columns of types ({}), but ({}) were declared",
            types.join(", "),
            wanted.join(", ")
        )));
    }
    let records = RecordBatch::try_new(declared, records.columns().to_vec())?;
    match projection {
        Some(projection) => Ok(records.project(projection)?),
        None => Ok(records),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip_and_corrupt_ones_are_refused() {
        let position = Position { subtask: 3, parallelism: 4, batches: 1 << 40 };
        assert_eq!(Position::decode(&position.encode()).unwrap(), position);
        assert!(Position::decode(&[0; 15]).is_err());
        assert!(Position::decode(&[]).is_err());
    }
}
