//! Element-wise casts of ARRAY, MAP, MULTISET and ROW.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::datatypes::{DataType as ArrowType, Field, Fields};
use hurtig_graph::LogicalType as T;

use super::{cast as cast_kernel, no_cast};
use crate::error::Result;
use crate::expr::value::{Kernel, Value, argument};
use crate::expr::zone::Zone;

type Convert = Box<dyn Fn(&ArrayRef) -> Result<ArrayRef> + Send + Sync>;

/// An array of one type to another; identity when they are alike.
fn converter(from: &T, to: &T, safe: bool, zone: Zone) -> Result<Convert> {
    Ok(match cast_kernel(from, to, safe, zone)? {
        None => Box::new(|array| Ok(Arc::clone(array))),
        Some(kernel) => Box::new(move |array: &ArrayRef| {
            kernel(&[Value { array: Arc::clone(array), constant: false }], array.len())
        }),
    })
}

pub(super) fn cast(from: &T, to: &T, safe: bool, zone: Zone) -> Result<Option<Kernel>> {
    let convert: Convert = match (from, to) {
        (T::Array(a), T::Array(b)) => {
            let item = converter(&a.logical, &b.logical, safe, zone)?;
            let arrow = to.to_arrow();
            Box::new(move |array| {
                let list = array.as_list::<i32>();
                let ArrowType::List(field) = &arrow else { return Ok(Arc::clone(array)) };
                let values = item(list.values())?;
                let nulls = list.nulls().cloned();
                Ok(Arc::new(ListArray::try_new(Arc::clone(field), list.offsets().clone(), values, nulls)?))
            })
        }
        (T::Map(k1, v1), T::Map(k2, v2)) => {
            let key = converter(&k1.logical, &k2.logical, safe, zone)?;
            let value = converter(&v1.logical, &v2.logical, safe, zone)?;
            map(key, value, to)
        }
        (T::Multiset(k1), T::Multiset(k2)) => {
            let key = converter(&k1.logical, &k2.logical, safe, zone)?;
            map(key, Box::new(|array| Ok(Arc::clone(array))), to)
        }
        (T::Row(a), T::Row(b)) if a.len() == b.len() => {
            let fields = a
                .iter()
                .zip(b)
                .map(|((_, x), (_, y))| converter(&x.logical, &y.logical, safe, zone))
                .collect::<Result<Vec<_>>>()?;
            let arrow: Fields = b.iter().map(|(name, ty)| Field::new(name, ty.logical.to_arrow(), true)).collect();
            Box::new(move |array| {
                let row = array.as_struct();
                let columns = fields.iter().zip(row.columns()).map(|(f, c)| f(c)).collect::<Result<Vec<_>>>()?;
                let nulls = row.nulls().cloned();
                Ok(Arc::new(StructArray::try_new_with_length(arrow.clone(), columns, nulls, row.len())?))
            })
        }
        _ => return Err(no_cast(from, to)),
    };
    if safe && super::can_fail(from, to) {
        return Ok(Some(row_by_row(cast(from, to, false, zone)?, to)));
    }
    Ok(Some(Arc::new(move |values: &[Value], _| convert(&argument(values, 0)?.array))))
}

/// TRY_CAST: a value of which any part cannot be cast is NULL as a whole.
fn row_by_row(strict: Option<Kernel>, to: &T) -> Kernel {
    let arrow = to.to_arrow();
    Arc::new(move |values: &[Value], _| {
        let array = &argument(values, 0)?.array;
        let Some(strict) = &strict else { return Ok(Arc::clone(array)) };
        let rows: Vec<ArrayRef> = (0..array.len())
            .map(|row| {
                let value = Value { array: array.slice(row, 1), constant: false };
                strict(&[value], 1).unwrap_or_else(|_| arrow::array::new_null_array(&arrow, 1))
            })
            .collect();
        if rows.is_empty() {
            return Ok(arrow::array::new_empty_array(&arrow));
        }
        let parts: Vec<&dyn Array> = rows.iter().map(AsRef::as_ref).collect();
        Ok(arrow::compute::concat(&parts)?)
    })
}

fn map(key: Convert, value: Convert, to: &T) -> Convert {
    let arrow = to.to_arrow();
    Box::new(move |array| {
        let map = array.as_map();
        let ArrowType::Map(field, sorted) = &arrow else { return Ok(Arc::clone(array)) };
        let ArrowType::Struct(fields) = field.data_type() else { return Ok(Arc::clone(array)) };
        let columns = vec![key(map.keys())?, value(map.values())?];
        let entries = StructArray::try_new(fields.clone(), columns, None)?;
        let nulls = map.nulls().cloned();
        Ok(Arc::new(MapArray::try_new(Arc::clone(field), map.offsets().clone(), entries, nulls, *sorted)?))
    })
}
