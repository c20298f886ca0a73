//! Arguments of kernels: arrays that may be constant, and typed views over them.

use std::sync::Arc;

use arrow::array::{Array, ArrayAccessor, ArrayRef, AsArray, Datum, PrimitiveArray, make_array};
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal128Type, DurationMillisecondType, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalYearMonthType, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};

use crate::error::{EngineError, Result};

/// A function over columns: arguments and the number of rows wanted, to one array of that length.
pub type Kernel = Arc<dyn Fn(&[Value], usize) -> Result<ArrayRef> + Send + Sync>;

/// An argument: one value a row, or one for all rows.
#[derive(Debug, Clone)]
pub struct Value {
    /// The values; a single one when constant.
    pub array: ArrayRef,
    /// Whether `array` holds the one value of all rows.
    pub constant: bool,
}

impl Datum for Value {
    fn get(&self) -> (&dyn Array, bool) {
        (self.array.as_ref(), self.constant)
    }
}

impl Value {
    /// The position of `row` in the array.
    #[inline]
    pub fn index(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }

    /// Whether the value of `row` is NULL.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.array.is_null(self.index(row))
    }

    /// The values, one a row.
    pub fn expand(&self, rows: usize) -> Result<ArrayRef> {
        if !self.constant || self.array.len() == rows {
            return Ok(Arc::clone(&self.array));
        }
        let indices = arrow::array::UInt32Array::from(vec![0; rows]);
        Ok(arrow::compute::take(&self.array, &indices, None)?)
    }

    /// The array as `A`.
    ///
    /// # Errors
    /// Internal: the binder gave an argument of another type.
    pub fn view<A: Array + 'static>(&self) -> Result<View<'_, A>> {
        match self.array.as_any().downcast_ref::<A>() {
            Some(array) => Ok(View { array, constant: self.constant }),
            None => Err(EngineError::Internal(format!(
                "a kernel for {} was given {}",
                std::any::type_name::<A>(),
                self.array.data_type()
            ))),
        }
    }

    /// The array as a primitive array.
    ///
    /// # Errors
    /// As [`Self::view`].
    pub fn view_primitive<P: arrow::array::ArrowPrimitiveType>(&self) -> Result<&PrimitiveArray<P>> {
        downcast(&self.array)
    }

    /// Any integer, date, time, timestamp or interval array as 64-bit integers in its own unit.
    pub fn longs(&self) -> Result<Longs> {
        Ok(Longs { array: to_longs(&self.array)?, constant: self.constant })
    }
}

/// The argument at `position`.
///
/// # Errors
/// Internal: the binder gave too few.
pub fn argument(values: &[Value], position: usize) -> Result<&Value> {
    values.get(position).ok_or_else(|| EngineError::Internal(format!("a kernel was given no argument {position}")))
}

/// A typed argument.
#[derive(Debug)]
pub struct View<'a, A> {
    array: &'a A,
    constant: bool,
}

impl<'a, A> View<'a, A>
where
    &'a A: ArrayAccessor,
{
    /// The value of `row`.
    #[inline]
    pub fn get(&self, row: usize) -> Option<<&'a A as ArrayAccessor>::Item> {
        let index = if self.constant { 0 } else { row };
        if self.array.is_null(index) { None } else { Some(self.array.value(index)) }
    }
}

/// Integers of any width, widened.
#[derive(Debug)]
pub struct Longs {
    array: PrimitiveArray<Int64Type>,
    constant: bool,
}

impl Longs {
    /// The value of `row`.
    #[inline]
    pub fn get(&self, row: usize) -> Option<i64> {
        let index = if self.constant { 0 } else { row };
        if self.array.is_null(index) { None } else { Some(self.array.value(index)) }
    }
}

impl Longs {
    /// `f` of every value that is not NULL, in one loop over all; one value where constant.
    pub fn unary(&self, f: impl Fn(i64) -> i64) -> PrimitiveArray<Int64Type> {
        self.array.unary(f)
    }

    /// As [`Self::unary`] for an `f` that can fail.
    ///
    /// # Errors
    /// The first that `f` gives.
    pub fn try_unary(&self, f: impl Fn(i64) -> Result<i64>) -> Result<PrimitiveArray<Int64Type>> {
        self.array.try_unary(f)
    }

    /// The one value of all rows, if it is constant and not NULL.
    pub fn constant(&self) -> Option<i64> {
        if self.constant { self.get(0) } else { None }
    }
}

fn to_longs(array: &ArrayRef) -> Result<PrimitiveArray<Int64Type>> {
    Ok(match array.data_type() {
        ArrowType::Int8 => array.as_primitive::<Int8Type>().unary(i64::from),
        ArrowType::Int16 => array.as_primitive::<Int16Type>().unary(i64::from),
        ArrowType::Int32 => array.as_primitive::<Int32Type>().unary(i64::from),
        ArrowType::Int64 => array.as_primitive::<Int64Type>().clone(),
        ArrowType::Date32 => array.as_primitive::<Date32Type>().unary(i64::from),
        ArrowType::Time32(TimeUnit::Millisecond) => array.as_primitive::<Time32MillisecondType>().unary(i64::from),
        ArrowType::Interval(_) => array.as_primitive::<IntervalYearMonthType>().unary(i64::from),
        ArrowType::Duration(TimeUnit::Millisecond) => {
            array.as_primitive::<DurationMillisecondType>().reinterpret_cast()
        }
        ArrowType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().reinterpret_cast()
        }
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast()
        }
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().reinterpret_cast()
        }
        other => return Err(EngineError::Internal(format!("{other} is not kept as an integer"))),
    })
}

/// Gives an array of 64-bit integers (or of any integer type or DECIMAL) the physical type `to`
/// without changing its values: timestamps, dates, intervals, and the precision of decimals.
pub fn retype(array: ArrayRef, to: &ArrowType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array);
    }
    match (array.data_type(), to) {
        (ArrowType::Decimal128(..), ArrowType::Decimal128(p, s)) => {
            Ok(Arc::new(array.as_primitive::<Decimal128Type>().clone().with_precision_and_scale(*p, *s)?))
        }
        (ArrowType::Int64, ArrowType::Timestamp(..) | ArrowType::Duration(_)) => relabel(&array, to),
        (ArrowType::Int32, ArrowType::Date32 | ArrowType::Time32(_) | ArrowType::Interval(_)) => relabel(&array, to),
        (ArrowType::Timestamp(a, _), ArrowType::Timestamp(b, _)) if a == b => relabel(&array, to),
        (ArrowType::Int64, ArrowType::Int32) => {
            Ok(Arc::new(array.as_primitive::<Int64Type>().unary::<_, Int32Type>(|v| v as i32)))
        }
        (ArrowType::Int64, ArrowType::Int16) => {
            Ok(Arc::new(array.as_primitive::<Int64Type>().unary::<_, Int16Type>(|v| v as i16)))
        }
        (ArrowType::Int64, ArrowType::Int8) => {
            Ok(Arc::new(array.as_primitive::<Int64Type>().unary::<_, Int8Type>(|v| v as i8)))
        }
        (ArrowType::Int64, ArrowType::Date32 | ArrowType::Time32(_) | ArrowType::Interval(_)) => {
            let narrow: ArrayRef = Arc::new(array.as_primitive::<Int64Type>().unary::<_, Int32Type>(|v| v as i32));
            relabel(&narrow, to)
        }
        (ArrowType::List(_), ArrowType::List(field)) => {
            let list = array.as_list::<i32>();
            let values = retype(Arc::clone(list.values()), field.data_type())?;
            Ok(Arc::new(arrow::array::ListArray::try_new(
                Arc::clone(field),
                list.offsets().clone(),
                values,
                list.nulls().cloned(),
            )?))
        }
        (ArrowType::Struct(_), ArrowType::Struct(fields)) => {
            let row = array.as_struct();
            let columns = row
                .columns()
                .iter()
                .zip(fields)
                .map(|(c, f)| retype(Arc::clone(c), f.data_type()))
                .collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(arrow::array::StructArray::try_new_with_length(
                fields.clone(),
                columns,
                row.nulls().cloned(),
                row.len(),
            )?))
        }
        (ArrowType::Map(..), ArrowType::Map(field, sorted)) => {
            let map = array.as_map();
            let entries = retype(Arc::new(map.entries().clone()), field.data_type())?;
            Ok(Arc::new(arrow::array::MapArray::try_new(
                Arc::clone(field),
                map.offsets().clone(),
                entries.as_struct().clone(),
                map.nulls().cloned(),
                *sorted,
            )?))
        }
        (ArrowType::Null, _) => Ok(arrow::array::new_null_array(to, array.len())),
        (from, _) => Err(EngineError::Internal(format!("a kernel gave {from} where its type says {to}"))),
    }
}

fn relabel(array: &ArrayRef, to: &ArrowType) -> Result<ArrayRef> {
    Ok(make_array(array.to_data().into_builder().data_type(to.clone()).build()?))
}

/// A kernel that works row by row over typed arguments and gives NULL where any of them is NULL.
///
/// `rowwise!((s: StringArray, n: Int32Array) -> StringArray, Ok(Some(left(s, n))))`; the body gives
/// `Result<Option<_>>`.
macro_rules! rowwise {
    (($($name:ident : $array:ty),* $(,)?) -> $out:ty, $body:expr) => {
        std::sync::Arc::new(move |values: &[$crate::expr::value::Value], rows: usize| {
            let mut position = 0;
            $(
                let $name = $crate::expr::value::argument(values, position)?.view::<$array>()?;
                position += 1;
            )*
            let _ = position;
            let array = (0..rows)
                .map(|row| {
                    $( let Some($name) = $name.get(row) else { return Ok(None) }; )*
                    $body
                })
                .collect::<$crate::error::Result<$out>>()?;
            Ok(std::sync::Arc::new(array) as arrow::array::ArrayRef)
        }) as $crate::expr::value::Kernel
    };
}
pub(crate) use rowwise;

/// The array as `A`.
///
/// # Errors
/// Internal: it is of another type.
pub fn downcast<A: Array + 'static>(array: &ArrayRef) -> Result<&A> {
    array.as_any().downcast_ref::<A>().ok_or_else(|| {
        EngineError::Internal(format!("a kernel for {} was given {}", std::any::type_name::<A>(), array.data_type()))
    })
}
