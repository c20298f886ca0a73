use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::*;
use crate::golden;
use crate::test_columns::{columns, map};

#[test]
fn hashes_equal_the_golden_vectors() {
    let mut text = format!("key hash version {KEY_HASH_VERSION}\n");
    for (name, column) in columns() {
        let hashes: Vec<String> = hash_columns(&[column]).iter().map(|h| format!("{h:016x}")).collect();
        writeln!(text, "{name}: {}", hashes.join(" ")).unwrap();
    }
    let pair = [
        Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef,
        Arc::new(StringArray::from(vec![Some("a"), None])),
    ];
    let hashes: Vec<String> = hash_columns(&pair).iter().map(|h| format!("{h:016x}")).collect();
    writeln!(text, "bigint, string: {}", hashes.join(" ")).unwrap();
    golden::check("key_hash.txt", text.as_bytes());
}

#[test]
fn the_rules_hold_against_the_plain_definition() {
    let bigint: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
    let int: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None]));
    let string: ArrayRef = Arc::new(StringArray::from(vec![Some("k"), Some("k")]));
    let first = xxh3_64_with_seed(&7i64.to_le_bytes(), 0);
    let null = xxh3_64_with_seed(&[], !0);
    let expected = vec![xxh3_64_with_seed(b"k", first), xxh3_64_with_seed(b"k", null)];
    assert_eq!(hash_columns(&[bigint, string.clone()]), expected);
    assert_eq!(hash_columns(&[int, string]), expected, "the width of an integer does not matter");
}

#[test]
fn equal_floats_have_equal_hashes() {
    let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0]));
    let h = hash_columns(&[column]);
    assert_eq!(h[0], h[1]);
    assert_eq!(h[2], h[3]);
    assert_ne!(h[0], h[4]);
}

#[test]
fn a_slice_hashes_as_its_rows_do_alone() {
    for (name, column) in columns() {
        let all = hash_columns(std::slice::from_ref(&column));
        for offset in 0..column.len() {
            let slice = column.slice(offset, column.len() - offset);
            assert_eq!(hash_columns(&[slice]), all[offset..], "{name} from {offset}");
        }
    }
}

#[test]
fn the_order_of_map_entries_does_not_matter() {
    let h = hash_columns(&[map(&[&[("x", Some(1)), ("y", None)], &[("y", None), ("x", Some(1))], &[("x", None)]])]);
    assert_eq!(h[0], h[1]);
    assert_ne!(h[0], h[2]);
}

#[test]
fn no_columns_give_one_key() {
    let mut hashes = vec![1];
    hash_columns_into(&[], 3, &mut hashes);
    assert_eq!(hashes, vec![0, 0, 0]);
}

proptest! {
    #[test]
    fn the_inlined_hash_of_an_integer_is_xxh3(value: i64, seed: u64) {
        prop_assert_eq!(hash_i64(value, seed), xxh3_64_with_seed(&value.to_le_bytes(), seed));
    }
}
