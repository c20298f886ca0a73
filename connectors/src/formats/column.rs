//! Reading single values out of Arrow columns, for everything that writes rows as text.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalYearMonthType, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use hurtig_graph::LogicalType;

use crate::error::{Error, Result};

/// A column of a known logical type. Made once a batch, asked once a value.
pub struct Column<'a> {
    nulls: Option<&'a NullBuffer>,
    all_null: bool,
    values: Values<'a>,
}

/// The values by type.
enum Values<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    Float(&'a PrimitiveArray<Float32Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a Decimal128Array, u8),
    String(&'a StringArray),
    Binary(&'a BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Time(&'a PrimitiveArray<Time32MillisecondType>),
    Timestamp(&'a [i64], TimeUnit, bool),
    Months(&'a PrimitiveArray<IntervalYearMonthType>),
    Millis(&'a PrimitiveArray<DurationMillisecondType>),
    List(&'a OffsetBuffer<i32>, Box<Column<'a>>),
    Map(&'a OffsetBuffer<i32>, Box<Column<'a>>, Box<Column<'a>>),
    Row(Vec<(&'a str, Column<'a>)>),
}

/// One value.
pub enum Value<'c, 'a> {
    /// NULL
    Null,
    /// BOOLEAN
    Boolean(bool),
    /// TINYINT to BIGINT
    Int(i64),
    /// FLOAT
    Float(f32),
    /// DOUBLE
    Double(f64),
    /// DECIMAL: unscaled value and scale.
    Decimal(i128, u8),
    /// CHAR, VARCHAR
    String(&'a str),
    /// BINARY, VARBINARY
    Binary(&'a [u8]),
    /// DATE: days since 1970.
    Date(i64),
    /// TIME: nanoseconds of the day.
    Time(i64),
    /// TIMESTAMP, TIMESTAMP_LTZ: value and unit, and whether it is an instant.
    Timestamp(i64, &'c TimeUnit, bool),
    /// INTERVAL YEAR TO MONTH
    Months(i32),
    /// INTERVAL DAY TO SECOND
    Millis(i64),
    /// ARRAY: the elements' column and which of its rows.
    List(&'c Column<'a>, std::ops::Range<usize>),
    /// MAP and MULTISET: columns of keys and values and which of their rows.
    Map(&'c Column<'a>, &'c Column<'a>, std::ops::Range<usize>),
    /// ROW: names and columns of the fields; the value's own row in them.
    Row(&'c [(&'a str, Column<'a>)], usize),
}

impl<'a> Column<'a> {
    /// A view of `array`, whose type must be the physical form of `ty`.
    ///
    /// # Errors
    /// [`Error::Internal`] when it is not.
    pub fn new(array: &'a ArrayRef, ty: &'a LogicalType) -> Result<Column<'a>> {
        let mismatch = || Error::Internal(format!("a column of type {ty} has the physical type {}", array.data_type()));
        let values = match ty {
            LogicalType::Null => Values::Null,
            LogicalType::Boolean => Values::Boolean(array.as_boolean_opt().ok_or_else(mismatch)?),
            LogicalType::TinyInt => Values::Int8(array.as_primitive_opt().ok_or_else(mismatch)?),
            LogicalType::SmallInt => Values::Int16(array.as_primitive_opt().ok_or_else(mismatch)?),
            LogicalType::Int => Values::Int32(array.as_primitive_opt().ok_or_else(mismatch)?),
            LogicalType::BigInt => Values::Int64(array.as_primitive_opt().ok_or_else(mismatch)?),
            LogicalType::Float => Values::Float(array.as_primitive_opt().ok_or_else(mismatch)?),
            LogicalType::Double => Values::Double(array.as_primitive_opt().ok_or_else(mismatch)?),
            LogicalType::Decimal(_, s) => Values::Decimal(array.as_primitive_opt().ok_or_else(mismatch)?, *s),
            LogicalType::Char(_) | LogicalType::Varchar(_) => {
                Values::String(array.as_string_opt().ok_or_else(mismatch)?)
            }
            LogicalType::Binary(_) | LogicalType::Varbinary(_) => {
                Values::Binary(array.as_binary_opt().ok_or_else(mismatch)?)
            }
            LogicalType::Date => Values::Date(array.as_primitive_opt().ok_or_else(mismatch)?),
            LogicalType::Time(_) => Values::Time(array.as_primitive_opt().ok_or_else(mismatch)?),
            LogicalType::Timestamp(_) => timestamps(array, false).ok_or_else(mismatch)?,
            LogicalType::TimestampLtz(_) => timestamps(array, true).ok_or_else(mismatch)?,
            LogicalType::IntervalYearMonth => Values::Months(array.as_primitive_opt().ok_or_else(mismatch)?),
            LogicalType::IntervalDayTime => Values::Millis(array.as_primitive_opt().ok_or_else(mismatch)?),
            LogicalType::Array(element) => {
                let list = array.as_list_opt::<i32>().ok_or_else(mismatch)?;
                Values::List(list.offsets(), Box::new(Column::new(list.values(), &element.logical)?))
            }
            LogicalType::Map(key, value) => map(array, &key.logical, &value.logical)?.ok_or_else(mismatch)?,
            LogicalType::Multiset(element) => map(array, &element.logical, &LogicalType::Int)?.ok_or_else(mismatch)?,
            LogicalType::Row(fields) => {
                let rows = array.as_struct_opt().ok_or_else(mismatch)?;
                if rows.columns().len() != fields.len() {
                    return Err(mismatch());
                }
                let columns = fields.iter().zip(rows.columns());
                let columns =
                    columns.map(|((name, ty), column)| Ok((name.as_str(), Column::new(column, &ty.logical)?)));
                Values::Row(columns.collect::<Result<_>>()?)
            }
        };
        let all_null = matches!(array.data_type(), ArrowType::Null);
        Ok(Column { nulls: array.nulls(), all_null, values })
    }

    /// The value in `row`.
    #[inline]
    pub fn value(&self, row: usize) -> Value<'_, 'a> {
        if self.all_null || self.nulls.is_some_and(|n| n.is_null(row)) {
            return Value::Null;
        }
        match &self.values {
            Values::Null => Value::Null,
            Values::Boolean(a) => Value::Boolean(a.value(row)),
            Values::Int8(a) => Value::Int(a.value(row).into()),
            Values::Int16(a) => Value::Int(a.value(row).into()),
            Values::Int32(a) => Value::Int(a.value(row).into()),
            Values::Int64(a) => Value::Int(a.value(row)),
            Values::Float(a) => Value::Float(a.value(row)),
            Values::Double(a) => Value::Double(a.value(row)),
            Values::Decimal(a, scale) => Value::Decimal(a.value(row), *scale),
            Values::String(a) => Value::String(a.value(row)),
            Values::Binary(a) => Value::Binary(a.value(row)),
            Values::Date(a) => Value::Date(a.value(row).into()),
            Values::Time(a) => Value::Time(i64::from(a.value(row)) * 1_000_000),
            Values::Timestamp(a, unit, ltz) => Value::Timestamp(a[row], unit, *ltz),
            Values::Months(a) => Value::Months(a.value(row)),
            Values::Millis(a) => Value::Millis(a.value(row)),
            Values::List(offsets, elements) => Value::List(elements, range(offsets, row)),
            Values::Map(offsets, keys, values) => Value::Map(keys, values, range(offsets, row)),
            Values::Row(fields) => Value::Row(fields, row),
        }
    }
}

fn range(offsets: &OffsetBuffer<i32>, row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn timestamps(array: &ArrayRef, ltz: bool) -> Option<Values<'_>> {
    let ArrowType::Timestamp(unit, zone) = array.data_type() else { return None };
    if zone.is_some() != ltz {
        return None;
    }
    let values: &[i64] = match unit {
        TimeUnit::Second => return None,
        TimeUnit::Millisecond => array.as_primitive_opt::<TimestampMillisecondType>()?.values(),
        TimeUnit::Microsecond => array.as_primitive_opt::<TimestampMicrosecondType>()?.values(),
        TimeUnit::Nanosecond => array.as_primitive_opt::<TimestampNanosecondType>()?.values(),
    };
    Some(Values::Timestamp(values, *unit, ltz))
}

fn map<'a>(array: &'a ArrayRef, key: &'a LogicalType, value: &'a LogicalType) -> Result<Option<Values<'a>>> {
    let Some(map) = array.as_map_opt() else { return Ok(None) };
    let (keys, values) = (Column::new(map.keys(), key)?, Column::new(map.values(), value)?);
    Ok(Some(Values::Map(map.offsets(), Box::new(keys), Box::new(values))))
}
