//! The writer of one subtask.
//!
//! Rows go to *in-progress* files in a hidden folder of the table (`.staging-<job>`). A barrier closes
//! them: they are flushed, synced and renamed to *pending* files, which the checkpoint lists. Once it
//! is complete they are *committed*: renamed to `part-<uuid>-<subtask>-<count>`, under which name they
//! are never touched again. Without checkpoints they are committed when the input has ended.
//!
//! A restore commits what the restored checkpoint lists (again, if need be) and removes what earlier
//! attempts of this subtask left behind and no checkpoint lists. All file work runs off-thread, in
//! order, in a [`worker`].

mod names;
mod queue;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use hurtig_engine::operator::{Collector, Flow, Operator, OperatorContext, OperatorSnapshot};
use hurtig_engine::registry::SinkSpec;
use hurtig_engine::{Batch, EngineError};
use hurtig_graph::RowSchema;
use hurtig_graph::config::keys::{CHECKPOINTING_AFTER_TASKS_FINISH, CHECKPOINTING_INTERVAL};
use prost::Message;

use self::names::Names;
use self::queue::SerialQueue;
use self::worker::{FileWorker, Order, PartFormat};
use super::split::{decode, encode};
use super::{FilesystemOptions, partition};
use crate::error::{Error, Result};
use crate::formats::Format;
use crate::formats::column::Column;
use crate::formats::csv::CsvEncoder;
use crate::formats::json::JsonEncoder;
use crate::options::DOCS_PAGE;

/// Name of the list state: a [`Committable`] an element.
const COMMITTABLES: &str = "committables";
/// Encoded text that is handed to the worker at once.
const WRITE_BYTES: usize = 256 << 10;
/// When this much waits to be written, the sink waits too.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// A closed file that is not visible yet.
#[derive(Clone, PartialEq, Message)]
pub struct Committable {
    /// Where it is.
    #[prost(string, tag = "1")]
    pub pending: String,
    /// Where it will be.
    #[prost(string, tag = "2")]
    pub target: String,
    /// The first checkpoint that lists it.
    #[prost(uint64, tag = "3")]
    pub checkpoint: u64,
}

/// An open file of one partition.
struct Part {
    id: u64,
    /// Folders below the table's path.
    folder: String,
    /// Encoded rows that the worker has not been given.
    buffer: Vec<u8>,
    /// Bytes of all encoded rows.
    bytes: u64,
}

enum Encoder {
    Json(JsonEncoder),
    Csv(CsvEncoder),
    /// Rows are encoded by the worker.
    Parquet,
}

/// See the module documentation.
pub struct FileWriter {
    options: FilesystemOptions,
    schema: RowSchema,
    /// Positions of the partition columns and of the others.
    partition_by: Vec<usize>,
    columns: Vec<usize>,
    encoder: Encoder,
    running: Option<Running>,
}

/// What there is once the writer is open.
struct Running {
    names: Names,
    queue: SerialQueue<FileWorker>,
    /// By folder.
    parts: BTreeMap<String, Part>,
    next_part: u64,
    /// Closed files, in the order in which they are committed, each with its number in that order.
    pending: Vec<(u64, Committable)>,
    next_number: u64,
    /// Files with a smaller number are committed.
    committed: Arc<AtomicU64>,
    /// The last checkpoint known.
    last_checkpoint: u64,
    /// When the input has ended, a last checkpoint commits what is left.
    final_checkpoint: bool,
}

impl FileWriter {
    /// A writer of rows of `spec`.
    pub fn new(options: FilesystemOptions, spec: &SinkSpec) -> Result<FileWriter> {
        let columns: Vec<usize> = (0..spec.schema.len()).filter(|i| !spec.partition_by.contains(i)).collect();
        if columns.is_empty() {
            return Err(Error::Validation("a table needs a column that is not a partition column".into()));
        }
        let in_file = spec.schema.project(&columns);
        options.format.check(&in_file)?;
        let encoder = match &options.format {
            Format::Json(json) => Encoder::Json(JsonEncoder::new(in_file, json.clone())),
            Format::Csv(csv) => Encoder::Csv(CsvEncoder::new(in_file, csv.clone())),
            Format::Parquet(_) => Encoder::Parquet,
            Format::Changes(_) => return Err(read_only(&options.format)),
        };
        Ok(FileWriter {
            options,
            schema: spec.schema.clone(),
            partition_by: spec.partition_by.clone(),
            columns,
            encoder,
            running: None,
        })
    }

    fn running(&mut self) -> hurtig_engine::Result<&mut Running> {
        self.running.as_mut().ok_or_else(not_open)
    }

    /// The rows of each folder, folders in the order of their first row.
    fn by_folder(&self, records: &RecordBatch) -> Result<Vec<(String, RecordBatch)>> {
        let in_file = records.project(&self.columns)?;
        if self.partition_by.is_empty() {
            return Ok(vec![(String::new(), in_file)]);
        }
        let mut columns = Vec::new();
        for &i in &self.partition_by {
            let field = &self.schema.fields[i];
            columns.push((field.name.as_str(), Column::new(records.column(i), &field.data_type.logical)?));
        }
        let mut folders: Vec<(String, Vec<u32>)> = Vec::new();
        let mut index: BTreeMap<String, usize> = BTreeMap::new();
        for row in 0..records.num_rows() {
            let values: Vec<(&str, String)> = columns
                .iter()
                .map(|(name, column)| (*name, partition::text(&column.value(row), &self.options.default_partition)))
                .collect();
            let folder = partition::folders(values.iter().map(|(name, value)| (*name, value.as_str())));
            match index.get(&folder) {
                Some(&at) => folders[at].1.push(row as u32),
                None => {
                    index.insert(folder.clone(), folders.len());
                    folders.push((folder, vec![row as u32]));
                }
            }
        }
        let rows = folders.into_iter().map(|(folder, rows)| {
            let all = rows.len() == in_file.num_rows();
            let rows = if all { in_file.clone() } else { take_record_batch(&in_file, &UInt32Array::from(rows))? };
            Ok((folder, rows))
        });
        rows.collect()
    }

    fn write(&mut self, folder: String, rows: RecordBatch) -> Result<()> {
        let roll_bytes = self.options.roll_bytes;
        let running = self.running.as_mut().ok_or_else(|| Error::Internal("the file sink is not open".into()))?;
        let part = running.part(folder);
        match &self.encoder {
            Encoder::Json(encoder) => encoder.encode(&rows, &mut part.buffer)?,
            Encoder::Csv(encoder) => encoder.encode(&rows, &mut part.buffer)?,
            Encoder::Parquet => {
                let (id, bytes) = (part.id, rows.get_array_memory_size());
                running.queue.push(bytes, Order::Rows { part: id, rows });
                return Ok(());
            }
        }
        if part.buffer.len() < WRITE_BYTES {
            return Ok(());
        }
        part.bytes += part.buffer.len() as u64;
        let (id, bytes, full) = (part.id, std::mem::take(&mut part.buffer), part.bytes >= roll_bytes);
        running.queue.push(bytes.len(), Order::Bytes { part: id, bytes });
        if full {
            // Bulk formats are closed by checkpoints only.
            let folder = running.parts.iter().find(|(_, p)| p.id == id).map(|(folder, _)| folder.clone());
            if let Some(part) = folder.and_then(|folder| running.parts.remove(&folder)) {
                running.close_part(part, running.last_checkpoint + 1);
            }
        }
        Ok(())
    }
}

impl Running {
    /// The open file of `folder`.
    fn part(&mut self, folder: String) -> &mut Part {
        let (queue, names, next) = (&self.queue, &self.names, &mut self.next_part);
        self.parts.entry(folder).or_insert_with_key(|folder| {
            let id = *next;
            *next += 1;
            queue.push(0, Order::Open { part: id, path: names.in_progress(id) });
            Part { id, folder: folder.clone(), buffer: Vec::new(), bytes: 0 }
        })
    }

    /// Closes a file; `checkpoint` will be the first to list it.
    fn close_part(&mut self, part: Part, checkpoint: u64) {
        if !part.buffer.is_empty() {
            self.queue.push(part.buffer.len(), Order::Bytes { part: part.id, bytes: part.buffer });
        }
        let committable = Committable {
            pending: self.names.pending(part.id, checkpoint),
            target: self.names.target(&part.folder, part.id),
            checkpoint,
        };
        self.queue.push(0, Order::Close { part: part.id, pending: committable.pending.clone().into() });
        self.add(committable);
    }

    fn close_all(&mut self, checkpoint: u64) {
        for part in std::mem::take(&mut self.parts).into_values() {
            self.close_part(part, checkpoint);
        }
    }

    fn add(&mut self, committable: Committable) {
        self.pending.push((self.next_number, committable));
        self.next_number += 1;
    }

    /// Makes the files visible that checkpoints up to `checkpoint` list.
    fn commit(&mut self, checkpoint: u64) {
        self.forget_committed();
        // Files are closed in the order of their checkpoints.
        let ready: Vec<(u64, Committable)> =
            self.pending.iter().take_while(|(_, c)| c.checkpoint <= checkpoint).cloned().collect();
        if !ready.is_empty() {
            self.queue.push(0, Order::Commit(ready));
        }
    }

    fn forget_committed(&mut self) {
        let committed = self.committed.load(Ordering::Acquire);
        self.pending.retain(|(number, _)| *number >= committed);
    }
}

/// Refuses formats that are only read.
pub fn check_format(format: &Format) -> Result<()> {
    match format {
        Format::Changes(_) => Err(read_only(format)),
        Format::Json(_) | Format::Csv(_) | Format::Parquet(_) => Ok(()),
    }
}

fn read_only(format: &Format) -> Error {
    let name = format.name();
    Error::Unsupported(format!(
        "tables of format '{name}' can only be read so far: {DOCS_PAGE} lists what is supported"
    ))
}

fn not_open() -> EngineError {
    EngineError::Internal("the file sink is not open".into())
}

impl Operator for FileWriter {
    fn open(&mut self, context: OperatorContext) -> hurtig_engine::Result<()> {
        let interval = context.configuration.duration_ms(&CHECKPOINTING_INTERVAL)?;
        let final_checkpoint = context.configuration.bool(&CHECKPOINTING_AFTER_TASKS_FINISH)?.unwrap_or(true);
        let names = Names::new(&self.options, &context);
        let committed = Arc::new(AtomicU64::new(0));
        let format = match &self.options.format {
            Format::Parquet(parquet) => PartFormat::Parquet {
                schema: self.schema.project(&self.columns).to_arrow(),
                compression: parquet.compression,
            },
            Format::Json(_) | Format::Csv(_) | Format::Changes(_) => PartFormat::Text,
        };
        let worker = FileWorker::new(names.staging().to_owned(), format, Arc::clone(&committed));
        let mut running = Running {
            queue: SerialQueue::new(worker, Arc::clone(&context.executor), Arc::clone(&context.waker)),
            parts: BTreeMap::new(),
            next_part: 0,
            pending: Vec::new(),
            next_number: 0,
            committed,
            last_checkpoint: context.restored.checkpoint,
            final_checkpoint: interval.is_some_and(|ms| ms > 0) && final_checkpoint,
            names,
        };
        let cleanup = running.names.cleanup(context.restored.checkpoint);
        running.queue.push(0, Order::Prepare { root: self.options.path.clone(), cleanup });
        for element in context.restored.list(COMMITTABLES) {
            running.add(decode(element, "a committable of the file sink")?);
        }
        running.pending.sort_by_key(|(number, c)| (c.checkpoint, *number));
        // Numbers follow the order of commits.
        running.pending.iter_mut().zip(0..).for_each(|((number, _), n)| *number = n);
        running.commit(context.restored.checkpoint);
        running.queue.check()?;
        self.running = Some(running);
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, _out: &mut dyn Collector) -> hurtig_engine::Result<Flow> {
        if batch.kinds().is_some_and(|kinds| kinds.iter().any(|k| *k != 0)) {
            return Err(EngineError::Internal("the file sink takes inserts only, not updates".into()));
        }
        for (folder, rows) in self.by_folder(batch.records())? {
            self.write(folder, rows)?;
        }
        self.running()?.queue.wait_below(MAX_WAITING_BYTES)?;
        Ok(Flow::Done)
    }

    fn prepare_barrier(&mut self, checkpoint: u64, _out: &mut dyn Collector) -> hurtig_engine::Result<()> {
        let running = self.running()?;
        running.close_all(checkpoint);
        running.last_checkpoint = running.last_checkpoint.max(checkpoint);
        Ok(())
    }

    fn snapshot(&mut self, _checkpoint: u64) -> hurtig_engine::Result<OperatorSnapshot> {
        let running = self.running()?;
        running.forget_committed();
        let elements = running.pending.iter().map(|(_, c)| encode(c)).collect();
        // The checkpoint counts only once what it lists is on disk.
        let (queue, orders) = (running.queue.clone(), running.queue.given());
        Ok(OperatorSnapshot {
            lists: vec![(COMMITTABLES.to_owned(), elements)],
            deferred: Some(Box::new(move || Ok(queue.finish(orders)?))),
            ..OperatorSnapshot::default()
        })
    }

    fn checkpoint_complete(&mut self, checkpoint: u64) -> hurtig_engine::Result<()> {
        let running = self.running()?;
        running.commit(checkpoint);
        Ok(running.queue.check()?)
    }

    fn timers(&mut self, _now_ms: i64, _out: &mut dyn Collector) -> hurtig_engine::Result<Flow> {
        self.running()?.queue.check()?;
        Ok(Flow::Done)
    }

    fn finish(&mut self, _out: &mut dyn Collector) -> hurtig_engine::Result<Flow> {
        let running = self.running()?;
        running.close_all(running.last_checkpoint + 1);
        if !running.final_checkpoint {
            running.commit(u64::MAX);
        }
        running.queue.check()?;
        Ok(Flow::Done)
    }

    fn quiescent(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.queue.is_idle())
    }

    fn close(&mut self) {
        if let Some(running) = self.running.take() {
            running.queue.push(0, Order::Abandon);
        }
    }
}
