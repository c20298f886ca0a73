//! Batches as Arrow IPC messages. The schema is not sent: both ends have it from their deployment.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt8Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use bytes::Bytes;

use crate::batch::Batch;
use crate::error::{EngineError, Result};

/// A batch in its wire form.
#[derive(Debug, Clone)]
pub struct EncodedBatch {
    /// The flatbuffer of the IPC message.
    pub header: Bytes,
    /// The buffers.
    pub body: Bytes,
    /// The last column holds row kinds.
    pub has_kinds: bool,
    /// Number of rows, where known (not after a trip over the network).
    pub rows: usize,
}

impl EncodedBatch {
    /// Bytes on the wire.
    pub fn bytes(&self) -> usize {
        self.header.len() + self.body.len()
    }
}

/// Name of the hidden column of row kinds.
const KINDS: &str = "$row_kind";

/// Encodes batches of one schema.
#[derive(Debug)]
pub struct Encoder {
    with_kinds: SchemaRef,
    options: IpcWriteOptions,
}

impl Encoder {
    /// For batches of `schema`.
    ///
    /// # Errors
    /// Compression that this build lacks.
    pub fn new(schema: &SchemaRef, compress: bool) -> Result<Encoder> {
        let compression = compress.then_some(CompressionType::LZ4_FRAME);
        let options = IpcWriteOptions::default().try_with_compression(compression)?;
        Ok(Encoder { with_kinds: schema_with_kinds(schema), options })
    }

    /// The wire form of `batch`.
    ///
    /// # Errors
    /// A column type that Arrow IPC cannot carry.
    pub fn encode(&self, batch: &Batch) -> Result<EncodedBatch> {
        let with_kinds;
        let (records, has_kinds) = match batch.kinds_array() {
            None => (batch.records(), false),
            Some(kinds) => {
                let mut columns = batch.records().columns().to_vec();
                columns.push(Arc::new(kinds.clone()) as ArrayRef);
                with_kinds = RecordBatch::try_new(Arc::clone(&self.with_kinds), columns)?;
                (&with_kinds, true)
            }
        };
        let mut dictionaries = DictionaryTracker::new(false);
        let (_, encoded) =
            IpcDataGenerator::default().encode(records, &mut dictionaries, &self.options, &mut Default::default())?;
        Ok(EncodedBatch {
            header: encoded.ipc_message.into(),
            body: encoded.arrow_data.into(),
            has_kinds,
            rows: batch.num_rows(),
        })
    }
}

/// Decodes batches of one schema.
#[derive(Debug)]
pub struct Decoder {
    schema: SchemaRef,
    with_kinds: SchemaRef,
}

impl Decoder {
    /// For batches of `schema`.
    pub fn new(schema: SchemaRef) -> Decoder {
        Decoder { with_kinds: schema_with_kinds(&schema), schema }
    }

    /// The batch. Its columns are parts of the body, not copies, where they are aligned.
    ///
    /// # Errors
    /// Bytes that are not a record batch of the schema.
    pub fn decode(&self, encoded: &EncodedBatch) -> Result<Batch> {
        let message = arrow::ipc::root_as_message(&encoded.header)
            .map_err(|e| EngineError::Connection(format!("cannot read the header of a batch: {e}")))?;
        let header = message
            .header_as_record_batch()
            .ok_or_else(|| EngineError::Connection("a data frame does not hold a record batch".into()))?;
        let schema = if encoded.has_kinds { &self.with_kinds } else { &self.schema };
        let records = arrow::ipc::reader::read_record_batch(
            &Buffer::from(encoded.body.clone()),
            header,
            Arc::clone(schema),
            &HashMap::new(),
            None,
            &message.version(),
        )?;
        if !encoded.has_kinds {
            return Ok(Batch::inserts(records));
        }
        let (mut columns, rows) = (records.columns().to_vec(), records.num_rows());
        let kinds = columns
            .pop()
            .ok_or_else(|| EngineError::Connection("a data frame lacks its column of row kinds".into()))?;
        let kinds = UInt8Array::from(kinds.to_data());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Ok(Batch::new(records, Some(kinds)))
    }
}

fn schema_with_kinds(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(KINDS, DataType::UInt8, false)));
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    fn batch() -> Batch {
        let schema =
            Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)])),
            Arc::new(StringArray::from(vec![Some("x"), Some("yy"), None, Some("")])),
        ];
        let records = RecordBatch::try_new(schema, columns).unwrap();
        Batch::new(records, Some(UInt8Array::from(vec![0, 1, 2, 3])))
    }

    fn round_trip(batch: &Batch) -> Batch {
        let plain = Encoder::new(&batch.schema(), false).unwrap().encode(batch).unwrap();
        let compressed = Encoder::new(&batch.schema(), true).unwrap().encode(batch).unwrap();
        let decoder = Decoder::new(batch.schema());
        let (plain, compressed) = (decoder.decode(&plain).unwrap(), decoder.decode(&compressed).unwrap());
        assert_eq!(plain.records(), compressed.records());
        plain
    }

    #[test]
    fn slices_travel_with_their_kinds_and_without_the_rest() {
        let all = batch();
        let part = all.slice(1, 2);
        let back = round_trip(&part);
        assert_eq!(back.records(), part.records());
        assert_eq!(back.kinds(), Some(&[1, 2][..]));
        let inserts = Batch::inserts(all.records().slice(3, 1));
        let back = round_trip(&inserts);
        assert_eq!(back.records(), inserts.records());
        assert_eq!(back.kinds(), None);
    }

    #[test]
    fn rows_without_columns_keep_their_number() {
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let records = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        let kinds = UInt8Array::from(vec![3; 7]);
        assert_eq!(round_trip(&Batch::new(records.clone(), Some(kinds))).num_rows(), 7);
        assert_eq!(round_trip(&Batch::inserts(records)).num_rows(), 7);
    }

    #[test]
    fn garbage_is_an_error() {
        let schema = batch().schema();
        let garbage = EncodedBatch {
            header: Bytes::from_static(b"not a flatbuffer at all"),
            body: Bytes::new(),
            has_kinds: false,
            rows: 0,
        };
        assert!(Decoder::new(schema).decode(&garbage).is_err());
    }
}
