//! Rows of a "collect" sink on their way to the client.
//!
//! With checkpoints on, rows are held until the checkpoint that covers them is complete: everything
//! received from an attempt before its acknowledgement of checkpoint n belongs to n or earlier. What
//! is held of an attempt that fails is dropped; its successor produces it again. Without checkpoints
//! rows go at once, and once some have gone the attempt cannot be replaced: its successor would send
//! them again.
//!
//! Flow control: a batch is acknowledged as soon as it is taken in, unless more than a limit of
//! bytes waits for the client; then when the client has caught up. Held rows do not count, else a
//! sink that waits would hold up the very checkpoint that releases them.
//!
//! The client gets one Arrow IPC stream: of the schema messages of all attempts only the first is
//! passed on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arrow::ipc::{MessageHeader, root_as_message};
use hurtig_proto::internal::v1 as internal;
use hurtig_proto::v1;
use prost::bytes::{Bytes, BytesMut};

/// What is to be done after an event.
#[derive(Debug, Default, PartialEq)]
pub struct CollectOutput {
    /// For the client, in order.
    pub rows: Vec<v1::ResultBatch>,
    /// For the sinks: task, and position up to which its rows are taken.
    pub acks: Vec<(usize, u64)>,
}

#[derive(Debug)]
struct Held {
    task: usize,
    covered_by: Option<u64>,
    batch: Parsed,
}

/// The rows of one job.
#[derive(Debug)]
pub struct CollectBuffer {
    hold: bool,
    limit_bytes: u64,
    held: VecDeque<Held>,
    schema: Option<Bytes>,
    schema_sent: bool,
    /// Released and not yet taken by the client.
    waiting_bytes: u64,
    /// Tasks of which rows went to the client without waiting for a checkpoint.
    given_out: BTreeSet<usize>,
    /// Position after the last row taken from the current attempt of each task.
    positions: BTreeMap<usize, u64>,
    unacknowledged: BTreeMap<usize, u64>,
}

impl CollectBuffer {
    /// `hold`: rows wait for checkpoints.
    pub fn new(hold: bool, limit_bytes: u64) -> Self {
        CollectBuffer {
            hold,
            limit_bytes,
            held: VecDeque::new(),
            schema: None,
            schema_sent: false,
            waiting_bytes: 0,
            given_out: BTreeSet::new(),
            positions: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
        }
    }

    /// A batch of the current attempt of `task`. A repetition is dropped.
    ///
    /// # Errors
    /// Rows are missing, or the batch is not Arrow IPC.
    pub fn receive(&mut self, task: usize, collected: internal::CollectedBatch) -> Result<CollectOutput, String> {
        let expected = self.positions.get(&task).copied().unwrap_or(0);
        if collected.sequence < expected {
            return Ok(CollectOutput::default());
        }
        if collected.sequence > expected {
            return Err(format!("rows {expected} to {} of a collect sink are missing", collected.sequence));
        }
        let batch = Parsed::of(collected.batch.unwrap_or_default())?;
        let position = expected + batch.rows;
        self.positions.insert(task, position);
        self.unacknowledged.insert(task, position);
        if self.schema.is_none() {
            self.schema.clone_from(&batch.schema);
        }
        let mut output = CollectOutput::default();
        if self.hold {
            self.held.push_back(Held { task, covered_by: None, batch });
        } else {
            if batch.rows > 0 {
                self.given_out.insert(task);
            }
            self.release(batch, &mut output);
        }
        self.acknowledge(&mut output);
        Ok(output)
    }

    /// `task` has acknowledged a checkpoint: what was received of it before belongs to it.
    pub fn covered(&mut self, task: usize, checkpoint: u64) {
        for held in self.held.iter_mut().filter(|held| held.task == task && held.covered_by.is_none()) {
            held.covered_by = Some(checkpoint);
        }
    }

    /// A checkpoint is complete.
    pub fn completed(&mut self, checkpoint: u64) -> CollectOutput {
        self.release_where(|held| held.covered_by.is_some_and(|covering| covering <= checkpoint))
    }

    /// The job has finished: nothing can be taken back any more.
    pub fn finished(&mut self) -> CollectOutput {
        self.release_where(|_| true)
    }

    /// Whether the client may have rows of `task` that no checkpoint covers, so that a new attempt
    /// would repeat them.
    pub fn has_given_out(&self, task: usize) -> bool {
        self.given_out.contains(&task)
    }

    /// The attempt of `task` is over and will be replaced: what is held of it will come again.
    pub fn reset(&mut self, task: usize) {
        self.held.retain(|held| held.task != task);
        self.positions.remove(&task);
        self.unacknowledged.remove(&task);
    }

    /// The client has taken rows.
    pub fn taken(&mut self, bytes: u64) -> CollectOutput {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        let mut output = CollectOutput::default();
        self.acknowledge(&mut output);
        output
    }

    fn release_where(&mut self, due: impl Fn(&Held) -> bool) -> CollectOutput {
        let mut output = CollectOutput::default();
        for held in std::mem::take(&mut self.held) {
            if due(&held) { self.release(held.batch, &mut output) } else { self.held.push_back(held) }
        }
        output
    }

    fn release(&mut self, batch: Parsed, output: &mut CollectOutput) {
        let schema = if self.schema_sent { None } else { batch.schema.or_else(|| self.schema.clone()) };
        self.schema_sent |= schema.is_some();
        let mut bytes = BytesMut::from(schema.as_deref().unwrap_or_default());
        bytes.extend_from_slice(&batch.data);
        if bytes.is_empty() {
            return;
        }
        self.waiting_bytes += bytes.len() as u64;
        output.rows.push(v1::ResultBatch { arrow_ipc: bytes.freeze(), row_kinds: batch.row_kinds });
    }

    fn acknowledge(&mut self, output: &mut CollectOutput) {
        if self.waiting_bytes <= self.limit_bytes {
            output.acks.extend(std::mem::take(&mut self.unacknowledged));
        }
    }
}

/// A batch taken apart into its schema message and the rest.
#[derive(Debug)]
struct Parsed {
    schema: Option<Bytes>,
    data: Bytes,
    row_kinds: Bytes,
    rows: u64,
}

impl Parsed {
    fn of(batch: v1::ResultBatch) -> Result<Parsed, String> {
        let all = batch.arrow_ipc;
        let mut parsed = Parsed { schema: None, data: Bytes::new(), row_kinds: batch.row_kinds, rows: 0 };
        let mut data = BytesMut::new();
        let mut at = 0;
        while let Some((metadata, end)) = message_at(&all, at)? {
            let bytes = all.slice(at..end);
            at = end;
            if metadata.is_empty() {
                continue;
            }
            let message =
                root_as_message(metadata).map_err(|error| format!("collected rows are not Arrow IPC: {error}"))?;
            if message.header_type() == MessageHeader::Schema {
                parsed.schema = Some(bytes);
                continue;
            }
            parsed.rows += message.header_as_record_batch().map_or(0, |header| header.length().max(0) as u64);
            data.extend_from_slice(&bytes);
        }
        parsed.data = data.freeze();
        Ok(parsed)
    }
}

/// The metadata of the encapsulated message at `at` and where the message ends; empty metadata for
/// an end-of-stream mark.
fn message_at(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, String> {
    let short = || "collected rows end within an Arrow IPC message".to_owned();
    let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { return Ok(None) };
    let word = |from: usize| -> Result<u32, String> {
        let bytes = rest.get(from..from + 4).ok_or_else(short)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let first = word(0)?;
    let (prefix, length) = if first == u32::MAX { (8, word(4)? as usize) } else { (4, first as usize) };
    if length == 0 {
        return Ok(Some((&[], at + prefix)));
    }
    let metadata = rest.get(prefix..prefix + length).ok_or_else(short)?;
    let body =
        root_as_message(metadata).map_err(|error| format!("collected rows are not Arrow IPC: {error}"))?.bodyLength();
    let end = usize::try_from(body).ok().and_then(|body| (at + prefix + length).checked_add(body));
    match end {
        Some(end) if end <= bytes.len() => Ok(Some((metadata, end))),
        _ => Err(short()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::ipc::reader::StreamReader;
    use arrow::ipc::writer::StreamWriter;
    use arrow::record_batch::RecordBatch;

    use super::*;

    /// A whole IPC stream, with schema and end mark, of the given values.
    pub fn collected(sequence: u64, values: &[i64]) -> internal::CollectedBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
        if !values.is_empty() {
            writer.write(&batch).unwrap();
        }
        writer.finish().unwrap();
        let arrow_ipc = writer.into_inner().unwrap().into();
        internal::CollectedBatch {
            sequence,
            batch: Some(v1::ResultBatch { arrow_ipc, ..Default::default() }),
            ..Default::default()
        }
    }

    fn values(outputs: &[CollectOutput]) -> Vec<i64> {
        let bytes: Vec<u8> = outputs.iter().flat_map(|o| &o.rows).flat_map(|rows| rows.arrow_ipc.to_vec()).collect();
        if bytes.is_empty() {
            return Vec::new();
        }
        let reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
        let columns = reader.map(|batch| batch.unwrap().column(0).clone());
        columns.flat_map(|c| c.as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()).collect()
    }

    #[test]
    fn the_client_gets_one_stream_of_all_subtasks() {
        let mut buffer = CollectBuffer::new(false, 1 << 20);
        let outputs = [
            buffer.receive(0, collected(0, &[])).unwrap(),
            buffer.receive(0, collected(0, &[1, 2])).unwrap(),
            buffer.receive(1, collected(0, &[3])).unwrap(),
            buffer.receive(0, collected(2, &[4])).unwrap(),
        ];
        assert_eq!(values(&outputs), [1, 2, 3, 4]);
        assert_eq!(outputs[3].acks, [(0, 3)]);
    }

    #[test]
    fn rows_wait_for_the_checkpoint_that_covers_them() {
        let mut buffer = CollectBuffer::new(true, 1 << 20);
        assert!(buffer.receive(0, collected(0, &[1])).unwrap().rows.is_empty());
        buffer.covered(0, 1);
        buffer.receive(0, collected(1, &[2])).unwrap();
        buffer.receive(1, collected(0, &[9])).unwrap();
        let mut outputs = vec![buffer.completed(1)];
        assert_eq!(values(&outputs), [1]);
        assert!(!buffer.has_given_out(0), "the checkpoint covers the row");
        // The attempt of task 0 fails: row 2 comes again from its successor.
        buffer.reset(0);
        buffer.receive(0, collected(0, &[2, 3])).unwrap();
        outputs.push(buffer.finished());
        assert_eq!(values(&outputs), [1, 9, 2, 3]);
    }

    #[test]
    fn rows_that_went_without_a_checkpoint_cannot_be_taken_back() {
        let mut buffer = CollectBuffer::new(false, 1 << 20);
        buffer.receive(0, collected(0, &[])).unwrap();
        buffer.receive(1, collected(0, &[1])).unwrap();
        assert_eq!([0, 1].map(|task| buffer.has_given_out(task)), [false, true]);
    }

    #[test]
    fn a_slow_client_holds_the_sink_back() {
        let mut buffer = CollectBuffer::new(false, 10);
        let output = buffer.receive(0, collected(0, &[1])).unwrap();
        assert!(output.acks.is_empty());
        let bytes = output.rows[0].arrow_ipc.len() as u64;
        assert_eq!(buffer.taken(bytes).acks, [(0, 1)]);
    }

    #[test]
    fn repetitions_are_dropped_and_gaps_and_garbage_are_errors() {
        let mut buffer = CollectBuffer::new(false, 1 << 20);
        buffer.receive(0, collected(0, &[1])).unwrap();
        assert_eq!(buffer.receive(0, collected(0, &[1])).unwrap(), CollectOutput::default());
        assert!(buffer.receive(0, collected(5, &[1])).unwrap_err().contains("rows 1 to 5"));
        let mut cut = collected(1, &[1]);
        if let Some(batch) = &mut cut.batch {
            batch.arrow_ipc.truncate(100);
        }
        assert!(buffer.receive(0, cut).is_err());
    }
}
