//! Everything to text, and the lengths of CHAR, VARCHAR, BINARY and VARBINARY.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, StringArray,
};
use hurtig_graph::LogicalType as T;
use hurtig_graph::types::MAX_LENGTH;

use super::no_cast;
use crate::error::Result;
use crate::expr::format::{self, Moment};
use crate::expr::value::{Kernel, Value, argument};
use crate::expr::zone::Zone;

/// How long a text may and must be, in code points.
#[derive(Clone, Copy)]
struct Length {
    most: usize,
    pad: bool,
}

impl Length {
    fn of(ty: &T) -> Option<Length> {
        match ty {
            T::Char(n) => Some(Length { most: *n as usize, pad: true }),
            T::Varchar(n) if *n < MAX_LENGTH => Some(Length { most: *n as usize, pad: false }),
            _ => None,
        }
    }

    /// Cut, or padded with spaces.
    fn fit(self, text: &str) -> Cow<'_, str> {
        let mut count = 0;
        for (at, _) in text.char_indices() {
            if count == self.most {
                return Cow::Borrowed(&text[..at]);
            }
            count += 1;
        }
        if !self.pad || count == self.most {
            return Cow::Borrowed(text);
        }
        Cow::Owned(format!("{text}{}", " ".repeat(self.most - count)))
    }
}

/// To CHAR, VARCHAR or STRING; `None` when nothing changes.
pub(super) fn cast(from: &T, to: &T, zone: Zone) -> Result<Option<Kernel>> {
    let length = Length::of(to);
    if from.is_string() {
        let shorter = match (from, to) {
            (T::Char(a), T::Varchar(b)) | (T::Varchar(a), T::Varchar(b)) => a <= b,
            _ => false,
        };
        return Ok(match length {
            Some(length) if !shorter => Some(crate::expr::value::rowwise!(
                (s: StringArray) -> StringArray,
                Ok(Some(length.fit(s)))
            )),
            _ => None,
        });
    }
    let print = printer(from, zone)?;
    Ok(Some(Arc::new(move |values: &[Value], rows: usize| {
        let value = argument(values, 0)?;
        let write = print(&value.array)?;
        let array: StringArray = (0..rows)
            .map(|row| {
                let index = value.index(row);
                if value.array.is_null(index) {
                    return None;
                }
                let text = write(index);
                Some(match length {
                    Some(length) => length.fit(&text).into_owned(),
                    None => text,
                })
            })
            .collect();
        Ok(Arc::new(array) as ArrayRef)
    })))
}

/// Prints the value at a position of one array, which is not NULL.
type Print<'a> = Box<dyn Fn(usize) -> String + 'a>;
/// Prepares printing the values of an array.
type Printer = Box<dyn Fn(&ArrayRef) -> Result<Print<'_>> + Send + Sync>;

/// Fixes the lifetimes of a closure that is a [`Printer`].
fn prepared<F>(f: F) -> Printer
where
    F: for<'a> Fn(&'a ArrayRef) -> Result<Print<'a>> + Send + Sync + 'static,
{
    Box::new(f)
}

/// The text of one value, `None` for NULL.
///
/// # Errors
/// Validation: the type has no text.
pub fn to_text(ty: &T, zone: Zone, array: &ArrayRef, index: usize) -> Result<Option<String>> {
    if array.is_null(index) {
        return Ok(None);
    }
    let print = printer(ty, zone)?;
    let print = print(array)?;
    Ok(Some(print(index)))
}

fn printer(ty: &T, zone: Zone) -> Result<Printer> {
    macro_rules! by {
        ($array:ty, |$v:ident| $body:expr) => {
            prepared(move |array| {
                let array = crate::expr::value::downcast::<$array>(array)?;
                Ok(Box::new(move |i: usize| {
                    let $v = array.value(i);
                    $body
                }) as Print<'_>)
            })
        };
    }
    macro_rules! longs {
        (|$v:ident| $body:expr) => {
            prepared(move |array| {
                let longs = Value { array: Arc::clone(array), constant: false }.longs()?;
                Ok(Box::new(move |i: usize| {
                    let $v = longs.get(i).unwrap_or(0);
                    $body
                }) as Print<'_>)
            })
        };
    }
    Ok(match ty {
        T::Boolean => by!(BooleanArray, |v| if v { "TRUE" } else { "FALSE" }.to_owned()),
        T::Char(_) | T::Varchar(_) => by!(StringArray, |v| v.to_owned()),
        T::Binary(_) | T::Varbinary(_) => by!(BinaryArray, |v| String::from_utf8_lossy(v).into_owned()),
        T::TinyInt | T::SmallInt | T::Int | T::BigInt => longs!(|v| v.to_string()),
        T::Float => by!(Float32Array, |v| format::float(v)),
        T::Double => by!(Float64Array, |v| format::double(v)),
        T::Decimal(_, scale) => {
            let scale = *scale;
            by!(Decimal128Array, |v| format::decimal(v, scale))
        }
        T::Date => longs!(|v| format::date(v)),
        T::Time(p) => {
            let p = (*p).min(3);
            longs!(|v| format::time(v, p))
        }
        T::Timestamp(p) => {
            let p = *p;
            longs!(|v| format::timestamp(Moment::from_stored(v, p), p))
        }
        T::TimestampLtz(p) => {
            let p = *p;
            longs!(|v| {
                let at = Moment::from_stored(v, p);
                format::timestamp(Moment { millis: zone.to_local(at.millis), ..at }, p)
            })
        }
        T::IntervalDayTime => longs!(|v| format::interval_day_time(v)),
        T::IntervalYearMonth => longs!(|v| format::interval_year_month(v)),
        T::Array(item) => {
            let item = printer(&item.logical, zone)?;
            prepared(move |array| {
                let list = array.as_list::<i32>();
                let values = list.values();
                let print = item(values)?;
                Ok(Box::new(move |i: usize| {
                    let range = list.value_offsets()[i] as usize..list.value_offsets()[i + 1] as usize;
                    let mut out = "[".to_owned();
                    for (n, at) in range.enumerate() {
                        out.push_str(if n == 0 { "" } else { ", " });
                        push(&mut out, values, at, &print);
                    }
                    out.push(']');
                    out
                }) as Print<'_>)
            })
        }
        T::Map(key, value) => map_printer(printer(&key.logical, zone)?, printer(&value.logical, zone)?),
        T::Multiset(key) => map_printer(printer(&key.logical, zone)?, printer(&T::Int, zone)?),
        T::Row(fields) => {
            let printers = fields.iter().map(|(_, ty)| printer(&ty.logical, zone)).collect::<Result<Vec<_>>>()?;
            prepared(move |array| {
                let row = array.as_struct();
                let prints = printers.iter().zip(row.columns()).map(|(p, c)| p(c)).collect::<Result<Vec<_>>>()?;
                Ok(Box::new(move |i: usize| {
                    let mut out = "(".to_owned();
                    for (n, (column, print)) in row.columns().iter().zip(&prints).enumerate() {
                        out.push_str(if n == 0 { "" } else { ", " });
                        push(&mut out, column, i, print);
                    }
                    out.push(')');
                    out
                }) as Print<'_>)
            })
        }
        T::Null => prepared(|_| Ok(Box::new(|_: usize| "NULL".to_owned()) as Print<'_>)),
        #[allow(unreachable_patterns)]
        other => return Err(no_cast(other, &T::STRING)),
    })
}

fn map_printer(key: Printer, value: Printer) -> Printer {
    prepared(move |array| {
        let map = array.as_map();
        let (keys, values) = (map.keys(), map.values());
        let (print_key, print_value) = (key(keys)?, value(values)?);
        Ok(Box::new(move |i: usize| {
            let range = map.value_offsets()[i] as usize..map.value_offsets()[i + 1] as usize;
            let mut out = "{".to_owned();
            for (n, at) in range.enumerate() {
                out.push_str(if n == 0 { "" } else { ", " });
                push(&mut out, keys, at, &print_key);
                out.push('=');
                push(&mut out, values, at, &print_value);
            }
            out.push('}');
            out
        }) as Print<'_>)
    })
}

fn push(out: &mut String, array: &ArrayRef, index: usize, print: &Print<'_>) {
    if array.is_null(index) {
        out.push_str("NULL");
    } else {
        // Writing to a String cannot fail.
        let _ = out.write_str(&print(index));
    }
}

/// The length of BINARY (padded) and VARBINARY (cut only).
pub(super) fn byte_length(ty: &T) -> (usize, bool) {
    match ty {
        T::Binary(n) => (*n as usize, true),
        T::Varbinary(n) => (*n as usize, false),
        _ => (usize::MAX, false),
    }
}

/// Cut, or padded with zero bytes.
pub(super) fn fit_bytes(bytes: &[u8], (most, pad): (usize, bool)) -> Vec<u8> {
    let mut out = bytes[..bytes.len().min(most)].to_vec();
    if pad {
        out.resize(most, 0);
    }
    out
}

/// BINARY and VARBINARY to each other.
pub(super) fn binary(from: &T, to: &T) -> Option<Kernel> {
    let length = byte_length(to);
    if !length.1 && byte_length(from).0 <= length.0 {
        return None;
    }
    Some(crate::expr::value::rowwise!((b: BinaryArray) -> BinaryArray, Ok(Some(fit_bytes(b, length)))))
}
