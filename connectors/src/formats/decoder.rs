//! From text to columns, in two passes.
//!
//! The first pass ([`RecordDecoder::scan`]) finds whole records in a buffer and remembers where the
//! wanted fields lie; a record that is no record is dropped or refused there, before anything was
//! built from it. The second ([`RecordDecoder::finish`]) turns the remembered pieces into Arrow
//! arrays a column at a time, in loops that know the column's type.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanBuilder, NullArray, PrimitiveArray, PrimitiveBuilder, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, Date32Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, IntervalYearMonthType, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use hurtig_graph::LogicalType;
use hurtig_graph::types::arrow_form::{LTZ_ZONE, time_unit};

use super::calendar::{self, TimestampStyle};
use super::scalar;

/// Where a field's text lies in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Span {
    /// The field is not there.
    pub const MISSING: Span = Span { start: u32::MAX, end: u32::MAX };

    /// A piece of the buffer.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32 }
    }
}

/// A record or a field that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Which row, counted from the first pending one. For a record that is none: the number of rows
    /// before it.
    pub row: usize,
    /// Offset in the buffer where the record starts.
    pub offset: usize,
    /// The field, outermost name first; empty: the record as a whole.
    pub path: Vec<String>,
    /// What is wrong with it.
    pub reason: String,
}

/// What a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// Offset behind the last whole record.
    pub end: usize,
    /// A record begins at `end`, or would, but the buffer holds no more whole one.
    pub starved: bool,
}

/// Limits of a scan.
#[derive(Debug, Clone, Copy)]
pub struct ScanLimits {
    /// The buffer ends where the input ends.
    pub at_end: bool,
    /// Records that begin here or later are not taken.
    pub until: usize,
    /// Rows pending at most, those of earlier scans included.
    pub rows: usize,
}

/// Reads records of one split. See the module documentation.
pub trait RecordDecoder: Send {
    /// Takes records of `data` from offset `from`.
    fn scan(&mut self, data: &[u8], from: usize, limits: ScanLimits) -> Result<Scanned, RecordError>;

    /// Rows scanned and not yet built.
    fn pending(&self) -> usize;

    /// The pending rows as columns.
    fn finish(&mut self, data: &[u8]) -> Result<Vec<ArrayRef>, RecordError>;

    /// The kinds of the rows that [`RecordDecoder::finish`] has just given; `None`: all are inserts.
    fn take_kinds(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// How values are written as text.
#[derive(Debug, Clone, Copy)]
pub struct TextRules {
    /// Form of timestamps.
    pub style: TimestampStyle,
    /// `2024-2-9` is a date.
    pub short_dates: bool,
    /// A value that does not parse is NULL instead of an error.
    pub ignore_errors: bool,
}

/// A failed value: its position and what is wrong.
pub type ValueError = (usize, String);

/// Builds a column of a scalar type from the texts of its values.
pub fn scalar_column<'a>(
    ty: &LogicalType,
    len: usize,
    rules: &TextRules,
    text: impl FnMut(usize) -> Result<Option<Cow<'a, [u8]>>, String>,
) -> Result<ArrayRef, ValueError> {
    let values = Values { len, ignore_errors: rules.ignore_errors, ty, text };
    let int = |min: i64, max: i64| move |t: &[u8]| scalar::parse_int(t, min, max).map(Some);
    match ty {
        LogicalType::Null => Ok(Arc::new(NullArray::new(len))),
        LogicalType::Boolean => values.booleans(),
        LogicalType::TinyInt => {
            values.primitive::<Int8Type>(|t| int(-128, 127)(t).map(|v| v.map(|v| v as i8))).map(into)
        }
        LogicalType::SmallInt => {
            values.primitive::<Int16Type>(|t| int(-32_768, 32_767)(t).map(|v| v.map(|v| v as i16))).map(into)
        }
        LogicalType::Int => values
            .primitive::<Int32Type>(|t| int(i32::MIN.into(), i32::MAX.into())(t).map(|v| v.map(|v| v as i32)))
            .map(into),
        LogicalType::BigInt => values.primitive::<Int64Type>(int(i64::MIN, i64::MAX)).map(into),
        LogicalType::Float => values.primitive::<Float32Type>(|t| scalar::parse_float(t).map(Some)).map(into),
        LogicalType::Double => values.primitive::<Float64Type>(|t| scalar::parse_double(t).map(Some)).map(into),
        LogicalType::Decimal(p, s) => values.decimals(*p, *s),
        LogicalType::Date => {
            let short = rules.short_dates;
            values.primitive::<Date32Type>(|t| date(t, short).map(Some)).map(into)
        }
        LogicalType::Time(p) => {
            let step = if *p == 0 { 1000 } else { 1 };
            values.primitive::<Time32MillisecondType>(|t| time(t, step).map(Some)).map(into)
        }
        LogicalType::Timestamp(p) => values.timestamps(rules.style, false, time_unit(*p)),
        LogicalType::TimestampLtz(p) => values.timestamps(rules.style, true, time_unit(*p)),
        LogicalType::IntervalYearMonth => {
            let months = |t: &[u8]| int(i32::MIN.into(), i32::MAX.into())(t).map(|v| v.map(|v| v as i32));
            values.primitive::<IntervalYearMonthType>(months).map(into)
        }
        LogicalType::IntervalDayTime => values.primitive::<DurationMillisecondType>(int(i64::MIN, i64::MAX)).map(into),
        LogicalType::Char(_) | LogicalType::Varchar(_) => values.strings(),
        LogicalType::Binary(_) | LogicalType::Varbinary(_) => values.bytes(),
        LogicalType::Array(_) | LogicalType::Map(..) | LogicalType::Multiset(_) | LogicalType::Row(_) => {
            Err((0, format!("{ty} is not a scalar type")))
        }
    }
}

fn into<T: ArrowPrimitiveType>(array: PrimitiveArray<T>) -> ArrayRef {
    Arc::new(array)
}

fn date(text: &[u8], short: bool) -> Option<i32> {
    if let Some(days) = calendar::parse_date(text) {
        return Some(days);
    }
    if !short {
        return None;
    }
    let mut parts = text.split(|&b| b == b'-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() > 2 || day.len() > 2 {
        return None;
    }
    let number = |t: &[u8]| scalar::parse_int(t, 0, 9999);
    calendar::days_from_civil(number(year)?, number(month)? as u32, number(day)? as u32)
}

fn time(text: &[u8], step_ms: i32) -> Option<i32> {
    let ms = (calendar::parse_time_nanos(text, false)? / 1_000_000) as i32;
    Some(ms / step_ms * step_ms)
}

/// The texts of a column's values.
struct Values<'t, F> {
    len: usize,
    ignore_errors: bool,
    ty: &'t LogicalType,
    text: F,
}

impl<'a, F: FnMut(usize) -> Result<Option<Cow<'a, [u8]>>, String>> Values<'_, F> {
    /// The text of value `i`, or NULL.
    fn get(&mut self, i: usize) -> Result<Option<Cow<'a, [u8]>>, ValueError> {
        match (self.text)(i) {
            Ok(text) => Ok(text),
            Err(_) if self.ignore_errors => Ok(None),
            Err(reason) => Err((i, reason)),
        }
    }

    fn bad(&self, i: usize, text: &[u8]) -> Result<(), ValueError> {
        if self.ignore_errors {
            return Ok(());
        }
        Err((i, format!("'{}' is not a value of type {}", shorten(text), self.ty)))
    }

    /// `parse` gives `None` for what is no value, `Some(None)` for NULL.
    fn primitive<T: ArrowPrimitiveType>(
        mut self,
        parse: impl Fn(&[u8]) -> Option<Option<T::Native>>,
    ) -> Result<PrimitiveArray<T>, ValueError> {
        let mut builder = PrimitiveBuilder::<T>::with_capacity(self.len);
        for i in 0..self.len {
            let Some(text) = self.get(i)? else {
                builder.append_null();
                continue;
            };
            match parse(&text) {
                Some(value) => builder.append_option(value),
                None => {
                    self.bad(i, &text)?;
                    builder.append_null();
                }
            }
        }
        Ok(builder.finish())
    }

    fn decimals(self, p: u8, s: u8) -> Result<ArrayRef, ValueError> {
        let array = self.primitive::<arrow::datatypes::Decimal128Type>(|t| scalar::parse_decimal(t, p, s))?;
        Ok(Arc::new(array.with_data_type(ArrowType::Decimal128(p, s as i8))))
    }

    fn timestamps(self, style: TimestampStyle, ltz: bool, unit: TimeUnit) -> Result<ArrayRef, ValueError> {
        let zone = ltz.then_some(LTZ_ZONE);
        let parse = |t: &[u8]| calendar::parse_timestamp(t, style, ltz, &unit).map(Some);
        Ok(match unit {
            TimeUnit::Microsecond => {
                Arc::new(self.primitive::<TimestampMicrosecondType>(parse)?.with_timezone_opt(zone))
            }
            TimeUnit::Nanosecond => Arc::new(self.primitive::<TimestampNanosecondType>(parse)?.with_timezone_opt(zone)),
            _ => Arc::new(self.primitive::<TimestampMillisecondType>(parse)?.with_timezone_opt(zone)),
        })
    }

    fn booleans(mut self) -> Result<ArrayRef, ValueError> {
        let mut builder = BooleanBuilder::with_capacity(self.len);
        for i in 0..self.len {
            builder.append_option(self.get(i)?.map(|t| t.eq_ignore_ascii_case(b"true")));
        }
        Ok(Arc::new(builder.finish()))
    }

    fn strings(mut self) -> Result<ArrayRef, ValueError> {
        let (mut offsets, mut values) = (Vec::with_capacity(self.len + 1), Vec::new());
        let mut valid = vec![true; self.len];
        offsets.push(0_i32);
        for (i, valid) in valid.iter_mut().enumerate() {
            match self.get(i)? {
                // Validated for the column as a whole below, where it is much faster.
                Some(text) => values.extend_from_slice(&text),
                None => *valid = false,
            }
            offsets.push(offset(values.len()).map_err(|e| (i, e))?);
        }
        let nulls = nulls(valid);
        let offsets = OffsetBuffer::new(offsets.into());
        let values = Buffer::from_vec(values);
        if let Ok(array) = StringArray::try_new(offsets.clone(), values.clone(), nulls.clone()) {
            return Ok(Arc::new(array));
        }
        // Some value is not UTF-8: find it.
        let texts: Vec<Option<&str>> = (0..self.len)
            .map(|i| {
                if nulls.as_ref().is_some_and(|n| n.is_null(i)) {
                    return Ok(None);
                }
                match std::str::from_utf8(&values[offsets[i] as usize..offsets[i + 1] as usize]) {
                    Ok(text) => Ok(Some(text)),
                    Err(_) if self.ignore_errors => Ok(None),
                    Err(_) => Err((i, "the text is not valid UTF-8".to_owned())),
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(StringArray::from(texts)))
    }

    fn bytes(mut self) -> Result<ArrayRef, ValueError> {
        let (mut offsets, mut values) = (vec![0_i32], Vec::new());
        let mut valid = vec![true; self.len];
        for (i, valid) in valid.iter_mut().enumerate() {
            let before = values.len();
            match self.get(i)? {
                Some(text) if scalar::read_base64(&mut values, &text).is_some() => {}
                Some(text) => {
                    self.bad(i, &text)?;
                    values.truncate(before);
                    *valid = false;
                }
                None => *valid = false,
            }
            offsets.push(offset(values.len()).map_err(|e| (i, e))?);
        }
        let array = BinaryArray::try_new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(values), nulls(valid));
        Ok(Arc::new(array.map_err(|e| (0, e.to_string()))?))
    }
}

/// A validity buffer, if anything is NULL.
pub fn nulls(valid: Vec<bool>) -> Option<NullBuffer> {
    if valid.iter().all(|v| *v) { None } else { Some(NullBuffer::from(valid)) }
}

/// An Arrow offset.
pub fn offset(bytes: usize) -> Result<i32, String> {
    i32::try_from(bytes).map_err(|_| "more than 2 GiB of data in one batch".to_owned())
}

/// The beginning of a text, for a message.
pub fn shorten(text: &[u8]) -> String {
    const LIMIT: usize = 100;
    let text = String::from_utf8_lossy(text);
    if text.chars().count() <= LIMIT {
        return text.into_owned();
    }
    text.chars().take(LIMIT).chain("...".chars()).collect()
}
