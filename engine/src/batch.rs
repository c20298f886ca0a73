//! The unit of work: a [`Batch`] is an Arrow record batch plus, for changelogs, the kind of each row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt8Array, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;

use crate::error::Result;

/// Rows that a full batch holds.
pub const TARGET_ROWS: usize = 8192;
/// Bytes that a full batch holds, whichever comes first.
pub const TARGET_BYTES: usize = 1 << 20;

/// What a row says about the result so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RowKind {
    /// +I: a new row.
    Insert = 0,
    /// -U: takes back a row that an update replaces.
    UpdateBefore = 1,
    /// +U: the row after an update.
    UpdateAfter = 2,
    /// -D: takes back a row.
    Delete = 3,
}

impl RowKind {
    /// +1 for +I and +U, -1 for -U and -D.
    #[inline]
    pub fn sign(self) -> i64 {
        match self {
            RowKind::Insert | RowKind::UpdateAfter => 1,
            RowKind::UpdateBefore | RowKind::Delete => -1,
        }
    }

    /// `+I`, `-U`, `+U`, `-D`.
    pub fn symbol(self) -> &'static str {
        match self {
            RowKind::Insert => "+I",
            RowKind::UpdateBefore => "-U",
            RowKind::UpdateAfter => "+U",
            RowKind::Delete => "-D",
        }
    }

    /// From the number that travels on the wire.
    pub fn from_u8(byte: u8) -> Option<RowKind> {
        [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete].get(usize::from(byte)).copied()
    }
}

/// Rows in columns, with their kinds. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Batch {
    records: RecordBatch,
    /// One byte a row; `None`: all rows are inserts.
    kinds: Option<UInt8Array>,
}

impl Batch {
    /// A batch of inserts.
    pub fn inserts(records: RecordBatch) -> Batch {
        Batch { records, kinds: None }
    }

    /// A batch with row kinds (bytes of [`RowKind`]), as many as rows.
    pub fn new(records: RecordBatch, kinds: Option<UInt8Array>) -> Batch {
        debug_assert!(kinds.as_ref().is_none_or(|k| k.len() == records.num_rows() && k.null_count() == 0));
        Batch { records, kinds }
    }

    /// The columns.
    pub fn records(&self) -> &RecordBatch {
        &self.records
    }

    /// The row kinds; `None` when all rows are inserts.
    pub fn kinds(&self) -> Option<&[u8]> {
        self.kinds.as_ref().map(|k| k.values().as_ref())
    }

    /// The row kinds as an array.
    pub fn kinds_array(&self) -> Option<&UInt8Array> {
        self.kinds.as_ref()
    }

    /// The kind of row `row`.
    #[inline]
    pub fn kind(&self, row: usize) -> RowKind {
        self.kinds.as_ref().and_then(|k| RowKind::from_u8(k.value(row))).unwrap_or(RowKind::Insert)
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.records.num_rows()
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.num_rows() == 0
    }

    /// The schema.
    pub fn schema(&self) -> SchemaRef {
        self.records.schema()
    }

    /// Column `index`.
    pub fn column(&self, index: usize) -> &ArrayRef {
        self.records.column(index)
    }

    /// The same rows and kinds with other columns.
    pub fn with_records(&self, records: RecordBatch) -> Batch {
        Batch::new(records, self.kinds.clone())
    }

    /// Rows `offset` to `offset + length`, without copying.
    pub fn slice(&self, offset: usize, length: usize) -> Batch {
        Batch {
            records: self.records.slice(offset, length),
            kinds: self.kinds.as_ref().map(|k| k.slice(offset, length)),
        }
    }

    /// The rows for which `mask` is TRUE.
    pub fn filter(&self, mask: &arrow::array::BooleanArray) -> Result<Batch> {
        let records = filter_record_batch(&self.records, mask)?;
        let kinds = match &self.kinds {
            Some(kinds) => Some(as_u8(&arrow::compute::filter(kinds, mask)?)),
            None => None,
        };
        Ok(Batch { records, kinds })
    }

    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Batch> {
        let records = take_record_batch(&self.records, indices)?;
        let kinds = match &self.kinds {
            Some(kinds) => Some(as_u8(&arrow::compute::take(kinds, indices, None)?)),
            None => None,
        };
        Ok(Batch { records, kinds })
    }

    /// All rows of `batches`, in order. At least one batch; all of schema `schema`.
    pub fn concat(schema: &SchemaRef, batches: &[Batch]) -> Result<Batch> {
        if let [only] = batches {
            return Ok(only.clone());
        }
        let records = concat_batches(schema, batches.iter().map(Batch::records))?;
        let kinds = batches.iter().any(|b| b.kinds.is_some()).then(|| {
            let mut kinds = Vec::with_capacity(records.num_rows());
            for batch in batches {
                match batch.kinds() {
                    Some(k) => kinds.extend_from_slice(k),
                    None => kinds.resize(kinds.len() + batch.num_rows(), RowKind::Insert as u8),
                }
            }
            UInt8Array::from(kinds)
        });
        Ok(Batch { records, kinds })
    }

    /// Bytes of the rows themselves: of a slice, only its part of the buffers.
    pub fn bytes(&self) -> usize {
        let columns: usize = self
            .records
            .columns()
            .iter()
            .map(|c| c.to_data().get_slice_memory_size().unwrap_or_else(|_| c.get_array_memory_size()))
            .sum();
        columns + self.kinds.as_ref().map_or(0, Array::len)
    }
}

fn as_u8(array: &ArrayRef) -> UInt8Array {
    UInt8Array::from(Arc::clone(array).to_data())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Int32Array};
    use arrow::datatypes::{DataType, Field, Schema};

    fn batch(values: &[i32], kinds: Option<&[u8]>) -> Batch {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int32, true)]));
        let records = RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(values.to_vec()))]).unwrap();
        Batch::new(records, kinds.map(|k| UInt8Array::from(k.to_vec())))
    }

    #[test]
    fn slices_filters_and_takes_keep_kinds_beside_rows() {
        let b = batch(&[1, 2, 3, 4], Some(&[0, 1, 2, 3])).slice(1, 3);
        assert_eq!(b.kind(0), RowKind::UpdateBefore);
        let f = b.filter(&BooleanArray::from(vec![Some(true), None, Some(true)])).unwrap();
        assert_eq!(f.kinds(), Some(&[1, 3][..]));
        let t = b.take(&UInt32Array::from(vec![2, 0])).unwrap();
        assert_eq!(t.kinds(), Some(&[3, 1][..]));
    }

    #[test]
    fn concat_fills_in_inserts() {
        let (a, b) = (batch(&[1], None), batch(&[2, 3], Some(&[3, 0])));
        let all = Batch::concat(&a.schema(), &[a.clone(), b]).unwrap();
        assert_eq!(all.kinds(), Some(&[0, 3, 0][..]));
    }

    #[test]
    fn bytes_of_a_slice_count_only_its_rows() {
        let b = batch(&[0; 1000], None);
        assert_eq!(b.slice(0, 10).bytes(), 40);
    }
}
