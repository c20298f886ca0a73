use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int16Array, Int64Array, ListArray,
    StringArray,
};
use arrow::datatypes::{DataType, Int32Type};
use arrow::row::{RowConverter, SortField};
use proptest::prelude::*;

use super::*;
use crate::golden;
use crate::test_columns::{columns, map};

fn types(columns: &[ArrayRef]) -> Vec<DataType> {
    columns.iter().map(|c| c.data_type().clone()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut s, b| {
        write!(s, "{b:02x}").unwrap();
        s
    })
}

#[test]
fn encodings_equal_the_golden_vectors() {
    let mut text = format!("key format {KEY_FORMAT}, value format {VALUE_FORMAT}\n");
    let (mut keys, mut values) = (EncodedRows::default(), EncodedRows::default());
    for (name, column) in columns() {
        let rows = column.len();
        let column = [column];
        encode_keys(&column, rows, &mut keys).unwrap();
        encode_values(7, &column, rows, &mut values).unwrap();
        for row in 0..rows {
            writeln!(text, "{name}[{row}]: key {} value {}", hex(keys.row(row)), hex(values.row(row))).unwrap();
        }
    }
    golden::check("encoding.txt", text.as_bytes());
}

#[test]
fn every_type_round_trips() {
    let (mut keys, mut values) = (EncodedRows::default(), EncodedRows::default());
    for (name, column) in columns() {
        // A slice with an offset, to see that offsets are minded.
        let column = column.slice(1, column.len() - 1);
        let rows = column.len();
        let columns = [column.clone(), Arc::new(Int64Array::from_iter_values(0..rows as i64)) as ArrayRef];
        encode_values(1, &columns, rows, &mut values).unwrap();
        let decoded = decode_values(values.iter(), &types(&columns)).unwrap();
        if name != "double" && name != "float" {
            assert_eq!(decoded[0].as_ref(), column.as_ref(), "{name}");
        }
        assert_eq!(decoded[1].as_ref(), columns[1].as_ref(), "what follows {name}");
        encode_keys(&columns, rows, &mut keys).unwrap();
        let decoded = decode_keys(keys.iter(), &types(&columns)).unwrap();
        if name != "double" && name != "float" && name != "map" {
            assert_eq!(decoded[0].as_ref(), column.as_ref(), "{name}");
        }
        assert_eq!(decoded[1].as_ref(), columns[1].as_ref(), "what follows {name}");
    }
}

#[test]
fn values_keep_floats_bit_for_bit_and_keys_make_equal_floats_equal() {
    let bits = [0x7ff8_0000_0000_0123, (-0.0f64).to_bits(), 1.5f64.to_bits(), f64::NEG_INFINITY.to_bits()];
    let column = [Arc::new(Float64Array::from_iter_values(bits.map(f64::from_bits))) as ArrayRef];
    let mut rows = EncodedRows::default();
    encode_values(1, &column, 4, &mut rows).unwrap();
    let decoded = decode_values(rows.iter(), &types(&column)).unwrap();
    let decoded: &Float64Array = decoded[0].as_any().downcast_ref().unwrap();
    assert_eq!(decoded.values().iter().map(|v| v.to_bits()).collect::<Vec<_>>(), bits);

    let column = [Arc::new(Float64Array::from(vec![f64::NEG_INFINITY, -1.0, -0.0, 0.0, 2.0, f64::NAN])) as ArrayRef];
    encode_keys(&column, 6, &mut rows).unwrap();
    assert!(rows.iter().is_sorted());
    assert_eq!(rows.row(2), rows.row(3));
}

#[test]
fn equal_maps_have_equal_keys() {
    let maps = [map(&[&[("x", Some(1)), ("y", None)], &[("y", None), ("x", Some(1))]])];
    let mut rows = EncodedRows::default();
    encode_keys(&maps, 2, &mut rows).unwrap();
    assert_eq!(rows.row(0), rows.row(1));
}

#[test]
fn database_keys_begin_with_key_group_and_table() {
    let column = [Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef];
    let (mut database, mut keys) = (EncodedRows::default(), EncodedRows::default());
    encode_database_keys(&column, &[3, 127], 9, &mut database).unwrap();
    encode_keys(&column, 2, &mut keys).unwrap();
    assert_eq!(read_prefix(database.row(0)).unwrap(), (3, 9, keys.row(0)));
    assert_eq!(read_prefix(database.row(1)).unwrap(), (127, 9, keys.row(1)));
    let (from, to) = table_bounds(127, 9);
    assert!(from.as_slice() <= database.row(1) && database.row(1) < to.as_slice());
    let (from, to) = key_group_range_bounds(3, 3);
    assert!(from.as_slice() <= database.row(0) && database.row(0) < to.as_slice());
    assert!(database.row(1) >= to.as_slice());
    assert_eq!(table_bounds(1, u16::MAX).1, table_bounds(2, 0).0);
}

#[test]
fn the_successor_of_a_prefix_is_behind_all_keys_with_it() {
    assert_eq!(successor(&[1, 2]), Some(vec![1, 3]));
    assert_eq!(successor(&[1, 0xff, 0xff]), Some(vec![2]));
    assert_eq!(successor(&[0xff, 0xff]), None);
    assert_eq!(successor(&[]), None);
}

#[test]
fn damaged_bytes_are_refused() {
    let columns = [
        Arc::new(StringArray::from(vec!["abc"])) as ArrayRef,
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1)])])),
    ];
    let types = types(&columns);
    let (mut keys, mut values) = (EncodedRows::default(), EncodedRows::default());
    encode_keys(&columns, 1, &mut keys).unwrap();
    encode_values(1, &columns, 1, &mut values).unwrap();
    for len in 0..keys.row(0).len() {
        assert!(decode_keys([&keys.row(0)[..len]], &types).is_err(), "key cut to {len}");
    }
    for len in 0..values.row(0).len() {
        assert!(decode_values([&values.row(0)[..len]], &types).is_err(), "value cut to {len}");
    }
    let mut other = values.row(0).to_vec();
    other[0] = 9;
    let error = decode_values([other.as_slice()], &types).unwrap_err();
    assert_eq!(error.to_string(), "state value has format 9; this version reads format 1");
    assert_eq!(value_schema_id(values.row(0)).unwrap(), 1);
}

prop_compose! {
    /// Columns of several types with small domains, so that ties in the first columns are frequent.
    fn key_columns()(rows in prop::collection::vec(
        (
            prop::option::of(any::<bool>()),
            prop::option::of(any::<i16>()),
            prop::option::of(prop_oneof![Just(i64::MIN), Just(0), Just(-1), any::<i64>()]),
            prop::option::of(-10_i128..10),
            prop::option::of("[a\0b]{0,3}"),
            prop::option::of(prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..4)),
            prop::option::of(prop::collection::vec(prop::option::of(-2i32..2), 0..3)),
        ),
        1..40,
    )) -> Vec<ArrayRef> {
        let decimals = Decimal128Array::from_iter(rows.iter().map(|r| r.3)).with_precision_and_scale(38, 3).unwrap();
        vec![
            Arc::new(BooleanArray::from_iter(rows.iter().map(|r| r.0))) as ArrayRef,
            Arc::new(StringArray::from_iter(rows.iter().map(|r| r.4.clone()))),
            Arc::new(BinaryArray::from_iter(rows.iter().map(|r| r.5.clone()))),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows.iter().map(|r| r.6.clone()))),
            Arc::new(decimals),
            Arc::new(Int16Array::from_iter(rows.iter().map(|r| r.1))),
            Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.2))),
        ]
    }
}

proptest! {
    #[test]
    fn keys_sort_as_their_columns_do(columns in key_columns(), first in 0usize..7) {
        let mut columns = columns;
        columns.rotate_left(first);
        let rows = columns[0].len();
        let mut keys = EncodedRows::default();
        encode_keys(&columns, rows, &mut keys).unwrap();
        let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
        let oracle = RowConverter::new(fields).unwrap().convert_columns(&columns).unwrap();
        for i in 0..rows {
            for j in 0..rows {
                prop_assert_eq!(keys.row(i).cmp(keys.row(j)), oracle.row(i).cmp(&oracle.row(j)));
                prop_assert!(i == j || keys.row(i) == keys.row(j) || !keys.row(i).starts_with(keys.row(j)));
            }
        }
    }

    #[test]
    fn keys_and_values_round_trip(columns in key_columns()) {
        let rows = columns[0].len();
        let types = types(&columns);
        let mut encoded = EncodedRows::default();
        encode_keys(&columns, rows, &mut encoded).unwrap();
        for (a, b) in decode_keys(encoded.iter(), &types).unwrap().iter().zip(&columns) {
            prop_assert_eq!(a.as_ref(), b.as_ref());
        }
        encode_values(1, &columns, rows, &mut encoded).unwrap();
        for (a, b) in decode_values(encoded.iter(), &types).unwrap().iter().zip(&columns) {
            prop_assert_eq!(a.as_ref(), b.as_ref());
        }
    }

    #[test]
    fn times_sort(a: i64, b: i64) {
        let (mut x, mut y) = (vec![], vec![]);
        put_time(a, &mut x);
        put_time(b, &mut y);
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        prop_assert_eq!(read_time(&x).unwrap(), (a, &[] as &[u8]));
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        for (_, column) in columns() {
            let types = [column.data_type().clone()];
            let _ = decode_keys([bytes.as_slice()], &types);
            let mut value = vec![VALUE_FORMAT, 1, 0];
            value.extend_from_slice(&bytes);
            let _ = decode_values([value.as_slice()], &types);
        }
    }
}
