//! Hashing of single and nested values: rows, arrays, maps, and what their elements are.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;

use super::{hash_column, hash_i64, hash_null};

/// Folds each value of a column of nested type (or of type NULL) into the hash of its row.
pub(super) fn hash_nested_column(column: &dyn Array, hashes: &mut [u64]) {
    match column.data_type() {
        DataType::Null => hashes.iter_mut().for_each(|h| *h = hash_null(*h)),
        DataType::Struct(_) => hash_rows(column, hashes),
        DataType::List(_) => hash_lists(column, hashes),
        DataType::Map(..) => hash_maps(column, hashes),
        other => panic!("a key column of type {other} has crossed an operator boundary: sources convert it"),
    }
}

/// Column-wise over the fields; the rows that are NULL as a whole are put right at the end.
fn hash_rows(column: &dyn Array, hashes: &mut [u64]) {
    let array = column.as_struct();
    let nulls: Vec<(usize, u64)> =
        (0..column.len()).filter(|&i| column.is_null(i)).map(|i| (i, hash_null(hashes[i]))).collect();
    hashes.iter_mut().for_each(|h| *h = hash_i64(array.num_columns() as i64, *h));
    for field in array.columns() {
        hash_column(field.as_ref(), hashes);
    }
    for (i, h) in nulls {
        hashes[i] = h;
    }
}

fn hash_lists(column: &dyn Array, hashes: &mut [u64]) {
    let array = column.as_list::<i32>();
    for (i, h) in hashes.iter_mut().enumerate() {
        if column.is_null(i) {
            *h = hash_null(*h);
            continue;
        }
        let elements = array.value(i);
        *h = hash_i64(elements.len() as i64, *h);
        for j in 0..elements.len() {
            *h = hash_one(&elements.slice(j, 1), *h);
        }
    }
}

fn hash_maps(column: &dyn Array, hashes: &mut [u64]) {
    let array = column.as_map();
    for (i, h) in hashes.iter_mut().enumerate() {
        if column.is_null(i) {
            *h = hash_null(*h);
            continue;
        }
        let entries = array.value(i);
        *h = hash_i64(entries.len() as i64, *h);
        let mut each = vec![*h; entries.len()];
        for field in entries.columns() {
            hash_column(field.as_ref(), &mut each);
        }
        let sum = each.iter().fold(0u64, |sum, e| sum.wrapping_add(*e));
        *h = hash_i64(sum as i64, *h);
    }
}

fn hash_one(value: &dyn Array, h: u64) -> u64 {
    let mut one = [h];
    hash_column(value, &mut one);
    one[0]
}
