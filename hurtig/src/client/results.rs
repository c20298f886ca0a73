//! Rows of a query as they come: Arrow IPC messages to batches.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::UInt8Array;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use futures::Stream;
use hurtig_engine::{Batch, RowKind};
use hurtig_graph::ErrorKind;
use hurtig_proto::v1;
use tokio::sync::mpsc;

use super::JobHandle;
use crate::error::{Error, Result};
use crate::runtime::OwnRuntime;

/// Batches that wait for the reader before the job is held back.
const BUFFERED: usize = 4;

/// The rows of a query as a stream of batches. Ends when the job has finished; a failed job is the
/// last item. Works on any executor. Dropping it leaves the job
/// running for `client.heartbeat.timeout`, in which [`JobHandle::results`] takes the rows over; then the job is
/// cancelled.
pub struct ResultStream {
    job: JobHandle,
    batches: mpsc::Receiver<Result<Batch>>,
    // Keeps the work going that feeds the channel.
    _runtime: Arc<OwnRuntime>,
}

impl ResultStream {
    pub(super) fn start(
        runtime: &Arc<OwnRuntime>,
        job: JobHandle,
        messages: tonic::Streaming<v1::ResultBatch>,
    ) -> ResultStream {
        let (send, batches) = mpsc::channel(BUFFERED);
        runtime.handle().spawn(pump(messages, job.clone(), send));
        ResultStream { job, batches, _runtime: runtime.clone() }
    }

    /// The job that makes the rows.
    pub fn job(&self) -> &JobHandle {
        &self.job
    }

    /// The next batch; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Batch>> {
        self.batches.recv().await
    }

    /// All rows to the end.
    ///
    /// # Errors
    /// When the job fails.
    pub async fn collect(mut self) -> Result<Vec<Batch>> {
        let mut all = Vec::new();
        while let Some(batch) = self.next().await {
            all.push(batch?);
        }
        Ok(all)
    }
}

impl Stream for ResultStream {
    type Item = Result<Batch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_recv(context)
    }
}

/// Decodes all messages into `send`, then tells how the job ended if it did not finish.
async fn pump(mut messages: tonic::Streaming<v1::ResultBatch>, job: JobHandle, send: mpsc::Sender<Result<Batch>>) {
    let mut decoder = Decoder::default();
    loop {
        let next = tokio::select! {
            next = messages.message() => next,
            // Nobody reads any more; the job may be silent for long.
            () = send.closed() => return,
        };
        let batch = match next {
            Ok(Some(message)) => decoder.decode(message),
            Ok(None) => break,
            Err(status) => Err(status.into()),
        };
        let last = batch.is_err();
        if let Some(item) = batch.transpose()
            && send.send(item).await.is_err()
        {
            return;
        }
        if last {
            return;
        }
    }
    if let Err(error) = job.wait().await {
        let _ = send.send(Err(error)).await;
    }
}

/// IPC messages to batches.
#[derive(Default)]
struct Decoder {
    ipc: StreamDecoder,
    schema: Option<SchemaRef>,
}

impl Decoder {
    /// `None` for a message without rows (the schema).
    fn decode(&mut self, message: v1::ResultBatch) -> Result<Option<Batch>> {
        let mut buffer = Buffer::from(message.arrow_ipc);
        let mut decoded = Vec::new();
        while !buffer.is_empty() {
            if let Some(records) = self.ipc.decode(&mut buffer)? {
                self.schema = Some(records.schema());
                decoded.push(Batch::inserts(records));
            }
        }
        let Some(schema) = self.schema.clone().filter(|_| !decoded.is_empty()) else { return Ok(None) };
        let rows = Batch::concat(&schema, &decoded)?;
        if message.row_kinds.is_empty() {
            return Ok(Some(rows));
        }
        let valid = message.row_kinds.iter().all(|&k| RowKind::from_u8(k).is_some());
        if !valid || message.row_kinds.len() != rows.num_rows() {
            return Err(Error::new(ErrorKind::Internal, "the JobManager sent row kinds that do not fit their rows"));
        }
        let kinds = UInt8Array::from(message.row_kinds.to_vec());
        Ok(Some(Batch::new(rows.records().clone(), Some(kinds))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::ipc::writer::StreamWriter;

    #[test]
    fn messages_of_an_ipc_stream_become_batches_with_kinds() {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int32, true)]));
        let records = |values: Vec<i32>| {
            RecordBatch::try_new(schema.clone(), vec![Arc::new(Int32Array::from(values)) as _]).unwrap()
        };
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
        let header = writer.get_ref().len();
        writer.write(&records(vec![1, 2])).unwrap();
        let first = writer.get_ref().len();
        writer.write(&records(vec![3])).unwrap();
        let bytes = writer.get_ref().clone();
        let message = |from: usize, to: usize, kinds: &[u8]| v1::ResultBatch {
            arrow_ipc: bytes[from..to].to_vec().into(),
            row_kinds: kinds.to_vec().into(),
        };
        let mut decoder = Decoder::default();
        assert!(decoder.decode(message(0, header, &[])).unwrap().is_none());
        let batch = decoder.decode(message(header, first, &[1, 2])).unwrap().unwrap();
        assert_eq!((batch.num_rows(), batch.kind(0), batch.kind(1)), (2, RowKind::UpdateBefore, RowKind::UpdateAfter));
        let batch = decoder.decode(message(first, bytes.len(), &[])).unwrap().unwrap();
        assert_eq!((batch.num_rows(), batch.kind(0)), (1, RowKind::Insert));
        assert!(decoder.decode(message(header, first, &[9, 9])).is_err());
    }
}
