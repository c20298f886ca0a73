//! Reading one split of a parquet file: row groups are read and decompressed off-thread, fitted to
//! the table's columns on the task's thread.

use std::fs::File;
use std::path::PathBuf;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use hurtig_graph::RowField;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::fetch::{Fetched, Fetcher, Producer};
use super::source::{Polled, SplitContext, SplitReader};
use super::split::{FileSplit, Position, WHOLE};
use crate::error::{Error, Result};
use crate::formats::parquet::{ParquetOptions, adapt_column};

/// See the module documentation.
pub struct ColumnarReader {
    split: FileSplit,
    fetcher: Fetcher<RecordBatch>,
    /// The columns to produce.
    columns: Vec<RowField>,
    /// Fetched rows that were not asked for yet.
    rest: Option<RecordBatch>,
    position: Position,
}

impl ColumnarReader {
    /// Goes on in `split` at `position`, producing `columns`.
    pub fn new(
        split: FileSplit,
        position: Position,
        columns: Vec<RowField>,
        options: &ParquetOptions,
        context: &SplitContext,
    ) -> Self {
        let names = columns.iter().map(|c| c.name.clone()).collect();
        let fetcher = context.fetcher(producer(&split, &position, names, options.batch_rows));
        ColumnarReader { split, fetcher, columns, rest: None, position }
    }

    fn build(&mut self, records: &RecordBatch) -> Result<Polled> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for field in &self.columns {
            let ty = &field.data_type.logical;
            let column = match records.column_by_name(&field.name) {
                Some(array) => adapt_column(array, &field.name, ty)
                    .map_err(|e| Error::Data(format!("file '{}', {e}", self.split.path)))?,
                None => new_null_array(&ty.to_arrow(), records.num_rows()),
            };
            columns.push(column);
        }
        self.position.rows += records.num_rows() as u64;
        self.position.begun = true;
        Ok(Polled::Rows { columns, rows: records.num_rows(), kinds: None })
    }
}

impl SplitReader for ColumnarReader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        let records = match self.rest.take() {
            Some(records) => records,
            None => match self.fetcher.take()? {
                Fetched::Item(records) => records,
                Fetched::End => return Ok(Polled::End),
                Fetched::Waiting => return Ok(Polled::Waiting),
            },
        };
        if records.num_rows() > max_rows {
            self.rest = Some(records.slice(max_rows, records.num_rows() - max_rows));
            return self.build(&records.slice(0, max_rows));
        }
        self.build(&records)
    }

    fn position(&self) -> Position {
        self.position
    }

    fn split(&self) -> &FileSplit {
        &self.split
    }
}

fn producer(split: &FileSplit, position: &Position, names: Vec<String>, batch_rows: usize) -> Producer<RecordBatch> {
    let path = PathBuf::from(&split.path);
    let (groups, skip) = ((split.start, split.end), position.rows);
    let mut open: Option<ParquetRecordBatchReader> = None;
    Box::new(move || {
        let reader = match &mut open {
            Some(reader) => reader,
            None => open.insert(start_reading(&path, groups, skip, &names, batch_rows)?),
        };
        reader.next().transpose().map_err(|e| Error::Data(format!("file '{}': {e}", path.display())))
    })
}

fn start_reading(
    path: &std::path::Path,
    groups: (u64, u64),
    skip_rows: u64,
    names: &[String],
    batch_rows: usize,
) -> Result<ParquetRecordBatchReader> {
    let file = File::open(path).map_err(|e| Error::io(format_args!("file '{}' cannot be read", path.display()), &e))?;
    let failed = |e: parquet::errors::ParquetError| Error::Data(format!("file '{}': {e}", path.display()));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
    let wanted = names.iter().filter_map(|name| builder.schema().index_of(name).ok());
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let last = if groups.1 == WHOLE { builder.metadata().num_row_groups() } else { groups.1 as usize };
    builder
        .with_projection(mask)
        .with_row_groups((groups.0 as usize..last).collect())
        .with_offset(skip_rows as usize)
        .with_batch_size(batch_rows)
        .build()
        .map_err(failed)
}
