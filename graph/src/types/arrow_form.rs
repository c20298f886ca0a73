//! The physical (Arrow) form of each logical type. All fields are nullable.

use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field, Fields, IntervalUnit, TimeUnit};

use super::{DataType, LogicalType};

/// The zone that marks an Arrow timestamp as TIMESTAMP_LTZ.
pub const LTZ_ZONE: &str = "UTC";

impl LogicalType {
    /// The Arrow type that values of this type have everywhere in the data plane.
    pub fn to_arrow(&self) -> ArrowType {
        match self {
            Self::Null => ArrowType::Null,
            Self::Boolean => ArrowType::Boolean,
            Self::Char(_) | Self::Varchar(_) => ArrowType::Utf8,
            Self::Binary(_) | Self::Varbinary(_) => ArrowType::Binary,
            Self::Decimal(p, s) => ArrowType::Decimal128(*p, *s as i8),
            Self::TinyInt => ArrowType::Int8,
            Self::SmallInt => ArrowType::Int16,
            Self::Int => ArrowType::Int32,
            Self::BigInt => ArrowType::Int64,
            Self::Float => ArrowType::Float32,
            Self::Double => ArrowType::Float64,
            Self::Date => ArrowType::Date32,
            Self::Time(_) => ArrowType::Time32(TimeUnit::Millisecond),
            Self::Timestamp(p) => ArrowType::Timestamp(time_unit(*p), None),
            Self::TimestampLtz(p) => ArrowType::Timestamp(time_unit(*p), Some(Arc::from(LTZ_ZONE))),
            Self::IntervalYearMonth => ArrowType::Interval(IntervalUnit::YearMonth),
            Self::IntervalDayTime => ArrowType::Duration(TimeUnit::Millisecond),
            Self::Array(t) => ArrowType::List(Arc::new(item_field(t))),
            Self::Map(k, v) => map_type(k.logical.to_arrow(), v.logical.to_arrow()),
            Self::Multiset(t) => map_type(t.logical.to_arrow(), ArrowType::Int32),
            Self::Row(fields) => ArrowType::Struct(
                fields.iter().map(|(name, ty)| Field::new(name, ty.logical.to_arrow(), true)).collect::<Fields>(),
            ),
        }
    }
}

fn item_field(item: &DataType) -> Field {
    Field::new("item", item.logical.to_arrow(), true)
}

fn map_type(key: ArrowType, value: ArrowType) -> ArrowType {
    // Arrow demands that map keys are not nullable; a NULL key of a Flink MAP cannot occur in data
    // that Hurtig produces.
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    ArrowType::Map(Arc::new(Field::new("entries", ArrowType::Struct(entries), false)), false)
}

/// The unit in which a timestamp of precision `p` is kept.
pub fn time_unit(precision: u8) -> TimeUnit {
    match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}
