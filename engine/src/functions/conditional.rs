//! GREATEST and LEAST.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, make_comparator};
use arrow::compute::{SortOptions, interleave};

use super::{Call, Function};
use crate::error::Result;
use crate::expr::value::Value;

pub(super) fn find(call: &Call<'_>) -> Result<Option<Function>> {
    let keep = match call.name {
        "GREATEST" => Ordering::Greater,
        "LEAST" => Ordering::Less,
        _ => return Ok(None),
    };
    Ok(Some(Function::pure(Arc::new(move |values: &[Value], rows| {
        // NULL if any argument is; all arguments are of one type.
        let mut choice = vec![0_usize; rows];
        for (next, value) in values.iter().enumerate().skip(1) {
            let comparators = (0..next)
                .map(|before| make_comparator(&value.array, &values[before].array, SortOptions::default()))
                .collect::<Result<Vec<_>, _>>()?;
            for (row, chosen) in choice.iter_mut().enumerate() {
                let best = &values[*chosen];
                if best.is_null(row) {
                    continue;
                }
                let better = value.is_null(row) || comparators[*chosen](value.index(row), best.index(row)) == keep;
                if better {
                    *chosen = next;
                }
            }
        }
        let arrays: Vec<&dyn Array> = values.iter().map(|v| v.array.as_ref()).collect();
        let indices: Vec<(usize, usize)> =
            choice.iter().enumerate().map(|(row, &chosen)| (chosen, values[chosen].index(row))).collect();
        Ok(interleave(&arrays, &indices)?)
    }))))
}
