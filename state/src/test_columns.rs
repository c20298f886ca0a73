//! Columns of every type that crosses operator boundaries, for tests.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationMillisecondArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, IntervalYearMonthArray, ListArray, MapArray,
    StringArray, StructArray, Time32MillisecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};

pub(crate) fn map(entries: &[&[(&str, Option<i32>)]]) -> ArrayRef {
    let keys: Vec<&str> = entries.iter().flat_map(|m| m.iter().map(|(k, _)| *k)).collect();
    let values: Vec<Option<i32>> = entries.iter().flat_map(|m| m.iter().map(|(_, v)| *v)).collect();
    let fields =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)]);
    let structs = StructArray::new(
        fields.clone(),
        vec![Arc::new(StringArray::from(keys)), Arc::new(Int32Array::from(values))],
        None,
    );
    let offsets = OffsetBuffer::from_lengths(entries.iter().map(|m| m.len()));
    let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
    Arc::new(MapArray::new(field, offsets, structs, None, false))
}

fn row(a: Vec<Option<i32>>, b: Vec<Option<&str>>, valid: Vec<bool>) -> ArrayRef {
    Arc::new(StructArray::new(
        Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]),
        vec![Arc::new(Int32Array::from(a)), Arc::new(StringArray::from(b))],
        Some(NullBuffer::from(valid)),
    ))
}

/// One column of every type with its edge values.
pub(crate) fn columns() -> Vec<(&'static str, ArrayRef)> {
    let nan = f64::from_bits(0x7ff8_0000_0000_0123);
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), Some(2)]),
        Some(vec![]),
        None,
        Some(vec![None]),
    ]);
    vec![
        ("boolean", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])) as ArrayRef),
        ("tinyint", Arc::new(Int8Array::from(vec![Some(1), Some(-1), None]))),
        ("smallint", Arc::new(Int16Array::from(vec![Some(1), Some(i16::MIN), None]))),
        ("int", Arc::new(Int32Array::from(vec![Some(1), Some(i32::MAX), None]))),
        ("bigint", Arc::new(Int64Array::from(vec![Some(1), Some(0), Some(i64::MIN), Some(i64::MAX), None]))),
        ("float", Arc::new(Float32Array::from(vec![Some(1.5), Some(-0.0), Some(f32::NAN), None]))),
        ("double", Arc::new(Float64Array::from(vec![Some(1.5), Some(-0.0), Some(0.0), Some(nan), None]))),
        (
            "decimal",
            Arc::new(Decimal128Array::from(vec![Some(12345), Some(-1), None]).with_precision_and_scale(20, 2).unwrap()),
        ),
        ("string", Arc::new(StringArray::from(vec![Some(""), Some("a"), Some("Gr\u{fc}\u{df}e, Hurtig!"), None]))),
        ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"".as_slice()), Some(&[0, 255]), None]))),
        ("date", Arc::new(Date32Array::from(vec![Some(0), Some(-1), None]))),
        ("time", Arc::new(Time32MillisecondArray::from(vec![Some(0), Some(86_399_999), None]))),
        ("timestamp3", Arc::new(TimestampMillisecondArray::from(vec![Some(1_700_000_000_000), None]))),
        ("timestamp6", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_000), None]))),
        ("months", Arc::new(IntervalYearMonthArray::from(vec![Some(14), None]))),
        ("duration", Arc::new(DurationMillisecondArray::from(vec![Some(-5), None]))),
        ("list", Arc::new(lists)),
        ("map", map(&[&[("x", Some(1)), ("y", None)], &[]])),
        ("row", row(vec![Some(1), None, Some(1)], vec![Some("q"), None, Some("q")], vec![true, true, false])),
    ]
}
