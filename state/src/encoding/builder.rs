//! Decoding cells into Arrow columns.

use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, BooleanBufferBuilder, NullBufferBuilder, make_array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

use super::cell::{Format, NULL, PRESENT, take, unsupported};
use crate::error::{Result, StateError};

/// Collects the decoded cells of one column.
pub(super) struct ColumnBuilder {
    data_type: DataType,
    nulls: NullBufferBuilder,
    len: usize,
    values: Values,
}

enum Values {
    Null,
    Bool(BooleanBufferBuilder),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    I128(Vec<i128>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes(Vec<i32>, Vec<u8>),
    List(Vec<i32>, Box<ColumnBuilder>),
    Map(Vec<i32>, Arc<Field>, Box<ColumnBuilder>, Box<ColumnBuilder>),
    Struct(Vec<ColumnBuilder>),
}

impl ColumnBuilder {
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        let values = match data_type {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Values::I8(vec![]),
            DataType::Int16 => Values::I16(vec![]),
            DataType::Int32
            | DataType::Date32
            | DataType::Time32(TimeUnit::Millisecond)
            | DataType::Interval(IntervalUnit::YearMonth) => Values::I32(vec![]),
            DataType::Int64
            | DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, _)
            | DataType::Duration(TimeUnit::Millisecond) => Values::I64(vec![]),
            DataType::Decimal128(..) => Values::I128(vec![]),
            DataType::Float32 => Values::F32(vec![]),
            DataType::Float64 => Values::F64(vec![]),
            DataType::Utf8 | DataType::Binary => Values::Bytes(vec![0], vec![]),
            DataType::List(item) => Values::List(vec![0], Box::new(ColumnBuilder::new(item.data_type())?)),
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { return Err(unsupported(data_type)) };
                let [key, value] = fields.as_ref() else { return Err(unsupported(data_type)) };
                Values::Map(
                    vec![0],
                    entries.clone(),
                    Box::new(ColumnBuilder::new(key.data_type())?),
                    Box::new(ColumnBuilder::new(value.data_type())?),
                )
            }
            DataType::Struct(fields) => {
                Values::Struct(fields.iter().map(|f| ColumnBuilder::new(f.data_type())).collect::<Result<_>>()?)
            }
            other => return Err(unsupported(other)),
        };
        Ok(ColumnBuilder { data_type: data_type.clone(), nulls: NullBufferBuilder::new(0), len: 0, values })
    }

    pub(super) fn push_null(&mut self) {
        self.len += 1;
        self.nulls.append_null();
        match &mut self.values {
            Values::Null => {}
            Values::Bool(v) => v.append(false),
            Values::I8(v) => v.push(0),
            Values::I16(v) => v.push(0),
            Values::I32(v) => v.push(0),
            Values::I64(v) => v.push(0),
            Values::I128(v) => v.push(0),
            Values::F32(v) => v.push(0.0),
            Values::F64(v) => v.push(0.0),
            Values::Bytes(offsets, _) | Values::List(offsets, _) | Values::Map(offsets, ..) => {
                offsets.push(offsets[offsets.len() - 1]);
            }
            Values::Struct(fields) => fields.iter_mut().for_each(ColumnBuilder::push_null),
        }
    }

    /// Reads the marker and, unless NULL, the value.
    pub(super) fn read_marked<F: Format>(&mut self, input: &mut &[u8]) -> Result<()> {
        match take::<1>(input)? {
            [NULL] => {
                self.push_null();
                Ok(())
            }
            [PRESENT] => self.read::<F>(input),
            [other] => Err(StateError::Corrupt(format!("encoded row has marker byte {other:#04x}, expected 0 or 1"))),
        }
    }

    /// Reads a value that is not NULL.
    pub(super) fn read<F: Format>(&mut self, input: &mut &[u8]) -> Result<()> {
        match &mut self.values {
            Values::Null => return Err(StateError::Corrupt("encoded row has a value of type NULL".into())),
            Values::Bool(v) => v.append(take::<1>(input)? != [0]),
            Values::I8(v) => v.push(i8::from_le_bytes(F::get_int(input)?)),
            Values::I16(v) => v.push(i16::from_le_bytes(F::get_int(input)?)),
            Values::I32(v) => v.push(i32::from_le_bytes(F::get_int(input)?)),
            Values::I64(v) => v.push(i64::from_le_bytes(F::get_int(input)?)),
            Values::I128(v) => v.push(i128::from_le_bytes(F::get_int(input)?)),
            Values::F32(v) => v.push(F::get_f32(input)?),
            Values::F64(v) => v.push(F::get_f64(input)?),
            Values::Bytes(offsets, data) => {
                F::get_bytes(input, data)?;
                offsets.push(offset(data.len())?);
            }
            Values::List(offsets, items) => {
                read_items::<F>(input, |input| items.read_marked::<F>(input))?;
                offsets.push(offset(items.len)?);
            }
            Values::Map(offsets, _, keys, values) => {
                read_items::<F>(input, |input| {
                    keys.read_marked::<F>(input)?;
                    values.read_marked::<F>(input)
                })?;
                offsets.push(offset(keys.len)?);
            }
            Values::Struct(fields) => {
                for field in fields {
                    field.read_marked::<F>(input)?;
                }
            }
        }
        self.len += 1;
        self.nulls.append_non_null();
        Ok(())
    }

    pub(super) fn finish(self) -> Result<ArrayRef> {
        Ok(make_array(self.finish_data()?))
    }

    fn finish_data(mut self) -> Result<ArrayData> {
        let builder = ArrayData::builder(self.data_type.clone()).len(self.len);
        let builder = match self.values {
            // An array of type NULL has no bitmap.
            Values::Null => return builder.build().map_err(corrupt),
            Values::Bool(mut v) => builder.add_buffer(v.finish().into_inner()),
            Values::I8(v) => builder.add_buffer(Buffer::from_vec(v)),
            Values::I16(v) => builder.add_buffer(Buffer::from_vec(v)),
            Values::I32(v) => builder.add_buffer(Buffer::from_vec(v)),
            Values::I64(v) => builder.add_buffer(Buffer::from_vec(v)),
            Values::I128(v) => builder.add_buffer(Buffer::from_vec(v)),
            Values::F32(v) => builder.add_buffer(Buffer::from_vec(v)),
            Values::F64(v) => builder.add_buffer(Buffer::from_vec(v)),
            Values::Bytes(offsets, data) => {
                builder.add_buffer(Buffer::from_vec(offsets)).add_buffer(Buffer::from_vec(data))
            }
            Values::List(offsets, items) => {
                builder.add_buffer(Buffer::from_vec(offsets)).add_child_data(items.finish_data()?)
            }
            Values::Map(offsets, entries, keys, values) => {
                let entries = ArrayData::builder(entries.data_type().clone())
                    .len(keys.len)
                    .add_child_data(keys.finish_data()?)
                    .add_child_data(values.finish_data()?)
                    .build()
                    .map_err(corrupt)?;
                builder.add_buffer(Buffer::from_vec(offsets)).add_child_data(entries)
            }
            Values::Struct(fields) => {
                fields.into_iter().try_fold(builder, |b, f| Ok::<_, StateError>(b.add_child_data(f.finish_data()?)))?
            }
        };
        builder.nulls(self.nulls.finish()).build().map_err(corrupt)
    }
}

fn read_items<F: Format>(input: &mut &[u8], mut read: impl FnMut(&mut &[u8]) -> Result<()>) -> Result<()> {
    match F::get_list(input)? {
        Some(len) => (0..len).try_for_each(|_| read(input)),
        None => {
            while F::get_item(input)? {
                read(input)?;
            }
            Ok(())
        }
    }
}

fn offset(len: usize) -> Result<i32> {
    i32::try_from(len)
        .map_err(|_| StateError::Corrupt("decoded column exceeds 2 GiB: decode fewer rows at a time".into()))
}

fn corrupt(error: arrow::error::ArrowError) -> StateError {
    StateError::Corrupt(format!("encoded rows do not fit their types: {error}"))
}
