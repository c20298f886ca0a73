//! Boolean logic beside AND and OR: NOT, IS NULL, IS TRUE and their negations.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{is_not_null, is_null, not};

use super::{Call, Function};
use crate::error::Result;
use crate::expr::value::{Kernel, argument};

pub(super) fn find(call: &Call<'_>) -> Result<Option<Function>> {
    let kernel: Kernel = match call.name {
        "NOT" => Arc::new(|values, _| Ok(Arc::new(not(argument(values, 0)?.array.as_boolean())?) as ArrayRef)),
        "IS NULL" | "IS UNKNOWN" => {
            Arc::new(|values, _| Ok(Arc::new(is_null(&argument(values, 0)?.array)?) as ArrayRef))
        }
        "IS NOT NULL" | "IS NOT UNKNOWN" => {
            Arc::new(|values, _| Ok(Arc::new(is_not_null(&argument(values, 0)?.array)?) as ArrayRef))
        }
        "IS TRUE" => is_value(true, true),
        "IS NOT TRUE" => is_value(true, false),
        "IS FALSE" => is_value(false, true),
        "IS NOT FALSE" => is_value(false, false),
        _ => return Ok(None),
    };
    Ok(Some(Function::pure(kernel)))
}

/// `hit` where the argument is `wanted`, else the opposite; never NULL.
fn is_value(wanted: bool, hit: bool) -> Kernel {
    Arc::new(move |values, _| {
        let array = argument(values, 0)?.array.as_boolean().clone();
        let matching = if wanted { array.values().clone() } else { !array.values() };
        let matching = match array.nulls() {
            Some(nulls) => &matching & nulls.inner(),
            None => matching,
        };
        Ok(Arc::new(BooleanArray::new(if hit { matching } else { !&matching }, None)) as ArrayRef)
    })
}
