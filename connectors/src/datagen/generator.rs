//! Making columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array,
    Int64Array, IntervalYearMonthArray, ListArray, MapArray, StringArray, StructArray, Time32MillisecondArray,
    TimestampMillisecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::DataType as ArrowType;
use hurtig_graph::LogicalType;

use super::fields::FieldOptions;
use crate::error::{Error, Result};
use crate::formats::scalar;
use crate::random::{below_wide, bits, unit};

/// Makes the values of a column (or of a part of one) from row numbers.
pub struct Generator {
    ty: LogicalType,
    /// Share of values that are NULL.
    null_rate: f64,
    values: Values,
}

enum Values {
    /// `start` + row number.
    Sequence {
        start: i64,
        length: u64,
    },
    Boolean,
    /// From `min` to `max`, both included.
    Integer {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    Decimal {
        min: i128,
        max: i128,
    },
    /// Hexadecimal digits or bytes.
    Text {
        length: u64,
        variable: bool,
    },
    /// The present or up to so many ms before.
    Time {
        max_past_ms: u64,
    },
    TimeOfDay,
    List {
        length: u64,
        element: Box<Generator>,
    },
    Map {
        length: u64,
        key: Box<Generator>,
        value: Box<Generator>,
    },
    Row(Vec<Generator>),
}

/// What random values follow from.
#[derive(Clone, Copy)]
pub struct Seed {
    /// Differs between jobs and between columns.
    pub stream: u64,
    /// The present, in ms since 1970.
    pub now_ms: i64,
}

impl Seed {
    fn of(self, part: u64) -> Seed {
        Seed { stream: bits(part + 1, self.stream), now_ms: self.now_ms }
    }
}

impl Generator {
    /// For a column whose options begin with `field`.
    pub fn new(options: &FieldOptions<'_>, field: &str, ty: &LogicalType) -> Result<Generator> {
        let kind = options.text(field, "kind").unwrap_or("random").to_ascii_lowercase();
        let values = match kind.as_str() {
            "random" => random(options, field, ty)?,
            "sequence" => sequence(options, field, ty)?,
            _ => return Err(Error::Validation(format!("{field}.kind: '{kind}' is not one of random, sequence"))),
        };
        let null_rate = options.value::<f64>(field, "null-rate", "a number from 0 to 1")?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&null_rate) {
            return Err(Error::Validation(format!("{field}.null-rate: write a number from 0 to 1")));
        }
        Ok(Generator { ty: ty.clone(), null_rate, values })
    }

    /// Number of values, if there is a last one.
    pub fn length(&self) -> Option<u64> {
        match self.values {
            Values::Sequence { length, .. } => Some(length),
            _ => None,
        }
    }

    /// The values of the rows `numbers`.
    pub fn column(&self, numbers: &[u64], seed: Seed) -> Result<ArrayRef> {
        let target = self.ty.to_arrow();
        let nulls = (self.null_rate > 0.0).then(|| {
            let seed = seed.of(1);
            NullBuffer::from_iter(numbers.iter().map(|n| unit(bits(*n, seed.stream)) >= self.null_rate))
        });
        let array = self.values(numbers, seed, &target, nulls)?;
        if *array.data_type() == target { Ok(array) } else { Ok(cast(&array, &target)?) }
    }

    fn values(&self, numbers: &[u64], seed: Seed, target: &ArrowType, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let random = |n: u64| bits(n, seed.stream);
        let each = numbers.iter().copied();
        Ok(match &self.values {
            Values::Sequence { start, .. } => self.sequence(*start, numbers, nulls)?,
            Values::Boolean => Arc::new(BooleanArray::new(each.map(|n| random(n) & 1 == 1).collect(), nulls)),
            Values::Integer { min, max } => {
                let span = max.wrapping_sub(*min) as u64;
                let value = |n| match span.checked_add(1) {
                    Some(count) => min.wrapping_add(below_wide(random(n), count) as i64),
                    None => random(n) as i64,
                };
                match self.ty {
                    // There is no cast to it from numbers.
                    LogicalType::IntervalYearMonth => {
                        Arc::new(IntervalYearMonthArray::new(each.map(|n| value(n) as i32).collect(), nulls))
                    }
                    _ => Arc::new(Int64Array::new(each.map(value).collect(), nulls)),
                }
            }
            Values::Number { min, max } => {
                // Halves, since the whole span may exceed the largest number.
                let value = |n| min + unit(random(n)) * (max / 2.0 - min / 2.0) * 2.0;
                if self.ty == LogicalType::Float {
                    Arc::new(Float32Array::new(each.map(|n| value(n) as f32).collect(), nulls))
                } else {
                    Arc::new(Float64Array::new(each.map(value).collect(), nulls))
                }
            }
            Values::Decimal { min, max } => {
                let span = max.wrapping_sub(*min) as u128 + 1;
                let value = |n| {
                    let wide = u128::from(random(n)) << 64 | u128::from(bits(n, !seed.stream));
                    min.wrapping_add((wide % span) as i128)
                };
                Arc::new(Decimal128Array::new(each.map(value).collect(), nulls).with_data_type(target.clone()))
            }
            Values::Text { length, variable } => self.texts(numbers, seed, *length, *variable, nulls)?,
            Values::Time { max_past_ms } => {
                let value = |n| seed.now_ms - below_wide(random(n), max_past_ms + 1) as i64;
                if self.ty == LogicalType::Date {
                    let days = each.map(|n| value(n).div_euclid(86_400_000) as i32);
                    Arc::new(Date32Array::new(days.collect(), nulls))
                } else {
                    Arc::new(
                        TimestampMillisecondArray::new(each.map(value).collect(), nulls)
                            .with_timezone_opt(zone(target)),
                    )
                }
            }
            Values::TimeOfDay => {
                let step = if self.ty == LogicalType::Time(0) { 1000 } else { 1 };
                let value = |n| below_wide(random(n), 86_400_000) as i32 / step * step;
                Arc::new(Time32MillisecondArray::new(each.map(value).collect(), nulls))
            }
            Values::List { length, element } => {
                let ArrowType::List(field) = target else { return Err(self.mismatch(target)) };
                let (offsets, inner) = inner(numbers, *length);
                let values = element.column(&inner, seed.of(2))?;
                Arc::new(ListArray::try_new(field.clone(), offsets, values, nulls)?)
            }
            Values::Map { length, key, value } => self.maps(numbers, seed, *length, key, value, target, nulls)?,
            Values::Row(fields) => {
                let ArrowType::Struct(arrow) = target else { return Err(self.mismatch(target)) };
                let columns = fields.iter().zip(2..).map(|(field, part)| field.column(numbers, seed.of(part)));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new_with_length(arrow.clone(), columns, nulls, numbers.len())?)
            }
        })
    }

    fn mismatch(&self, target: &ArrowType) -> Error {
        Error::Internal(format!("{} is not made as {target}", self.ty))
    }

    fn sequence(&self, start: i64, numbers: &[u64], nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let values = numbers.iter().map(|n| start.wrapping_add(*n as i64));
        Ok(match &self.ty {
            LogicalType::Decimal(p, s) => {
                let factor = 10_i128.pow(u32::from(*s));
                let values = values.map(|v| i128::from(v) * factor).collect();
                Arc::new(Decimal128Array::new(values, nulls).with_data_type(ArrowType::Decimal128(*p, *s as i8)))
            }
            LogicalType::Int => Arc::new(Int32Array::new(values.map(|v| v as i32).collect(), nulls)),
            LogicalType::Char(_) | LogicalType::Varchar(_) => {
                let texts: Vec<Option<String>> = values
                    .enumerate()
                    .map(|(i, v)| nulls.as_ref().is_none_or(|n| n.is_valid(i)).then(|| v.to_string()))
                    .collect();
                Arc::new(StringArray::from(texts))
            }
            _ => Arc::new(Int64Array::new(values.collect(), nulls)),
        })
    }

    fn texts(
        &self,
        numbers: &[u64],
        seed: Seed,
        length: u64,
        variable: bool,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let text = !self.ty.is_binary();
        let lengths = seed.of(2);
        let mut values = Vec::new();
        let mut offsets = vec![0_i32];
        for &n in numbers {
            let length = if variable { 1 + below_wide(bits(n, lengths.stream), length.max(1)) } else { length };
            for i in 0..length {
                if i % 8 == 0 {
                    values.extend_from_slice(&bits(n, seed.stream.wrapping_add(i + 1)).to_le_bytes());
                }
            }
            let start = offsets.last().copied().unwrap_or_default() as usize;
            values.truncate(start + length as usize);
            if text {
                values[start..].iter_mut().for_each(|b| *b = DIGITS[usize::from(*b & 15)]);
            }
            offsets.push(
                i32::try_from(values.len())
                    .map_err(|_| Error::Validation(format!("length {length} is too large: a batch exceeds 2 GiB")))?,
            );
        }
        let (offsets, values) = (OffsetBuffer::new(offsets.into()), Buffer::from_vec(values));
        Ok(match text {
            true => Arc::new(StringArray::try_new(offsets, values, nulls)?),
            false => Arc::new(BinaryArray::try_new(offsets, values, nulls)?),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one map")]
    fn maps(
        &self,
        numbers: &[u64],
        seed: Seed,
        length: u64,
        key: &Generator,
        value: &Generator,
        target: &ArrowType,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef> {
        let ArrowType::Map(field, _) = target else { return Err(self.mismatch(target)) };
        let ArrowType::Struct(fields) = field.data_type() else { return Err(self.mismatch(target)) };
        let (offsets, inner) = inner(numbers, length);
        let columns = vec![key.column(&inner, seed.of(2))?, value.column(&inner, seed.of(3))?];
        let entries = StructArray::try_new_with_length(fields.clone(), columns, None, inner.len())?;
        Ok(Arc::new(MapArray::try_new(field.clone(), offsets, entries, nulls, false)?))
    }
}

fn zone(target: &ArrowType) -> Option<Arc<str>> {
    match target {
        ArrowType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    }
}

/// Offsets and numbers of the elements of collections of `length` each.
fn inner(numbers: &[u64], length: u64) -> (OffsetBuffer<i32>, Vec<u64>) {
    let inner = numbers.iter().flat_map(|n| (0..length).map(move |i| n.wrapping_mul(length).wrapping_add(i))).collect();
    (OffsetBuffer::from_repeated_length(length as usize, numbers.len()), inner)
}

fn range(ty: &LogicalType) -> Option<(i64, i64)> {
    Some(match ty {
        LogicalType::TinyInt => (i8::MIN.into(), i8::MAX.into()),
        LogicalType::SmallInt => (i16::MIN.into(), i16::MAX.into()),
        LogicalType::Int => (i32::MIN.into(), i32::MAX.into()),
        LogicalType::BigInt | LogicalType::IntervalDayTime => (i64::MIN, i64::MAX),
        LogicalType::IntervalYearMonth => (0, 120_000),
        _ => return None,
    })
}

fn sequence(options: &FieldOptions<'_>, field: &str, ty: &LogicalType) -> Result<Values> {
    let bound = |name: &str| {
        options.value::<i64>(field, name, "a whole number")?.ok_or_else(|| {
            Error::Validation(format!("could not find required property '{field}.{name}' for the sequence generator"))
        })
    };
    let (start, end) = (bound("start")?, bound("end")?);
    let numeric = ty.is_exact_numeric() || ty.is_approximate_numeric();
    if !numeric && !ty.is_string() {
        return Err(Error::Validation(format!("{field}: there is no sequence of {ty}")));
    }
    if end < start {
        return Err(Error::Validation(format!("{field}.end: {end} is less than the start, {start}")));
    }
    if range(ty).is_some_and(|(min, max)| start < min || end > max) {
        return Err(Error::Validation(format!("{field}: the sequence from {start} to {end} exceeds {ty}")));
    }
    Ok(Values::Sequence { start, length: (end.wrapping_sub(start) as u64).saturating_add(1) })
}

fn random(options: &FieldOptions<'_>, field: &str, ty: &LogicalType) -> Result<Values> {
    if let Some((lowest, highest)) = range(ty) {
        let min = options.value(field, "min", "a whole number")?.unwrap_or(lowest);
        let max = options.value(field, "max", "a whole number")?.unwrap_or(highest);
        if min > max || min < lowest || max > highest {
            return Err(Error::Validation(format!("{field}: there is no {ty} from {min} to {max}")));
        }
        return Ok(Values::Integer { min, max });
    }
    Ok(match ty {
        LogicalType::Boolean => Values::Boolean,
        LogicalType::Float | LogicalType::Double => {
            let limit = if *ty == LogicalType::Float { f64::from(f32::MAX) } else { f64::MAX };
            let min = options.value(field, "min", "a number")?.unwrap_or(-limit);
            let max = options.value(field, "max", "a number")?.unwrap_or(limit);
            if !(min <= max && min >= -limit && max <= limit) {
                return Err(Error::Validation(format!("{field}: there is no {ty} from {min} to {max}")));
            }
            Values::Number { min, max }
        }
        LogicalType::Decimal(p, s) => {
            let limit = 10_i128.pow(u32::from(*p)) - 1;
            let bound = |name: &str, default: i128| match options.text(field, name) {
                None => Ok(default),
                Some(text) => scalar::parse_decimal(text.trim().as_bytes(), *p, *s)
                    .flatten()
                    .ok_or_else(|| Error::Validation(format!("{field}.{name}: '{text}' is not a {ty}"))),
            };
            let (min, max) = (bound("min", -limit)?, bound("max", limit)?);
            if min > max {
                return Err(Error::Validation(format!("{field}: the minimum is greater than the maximum")));
            }
            Values::Decimal { min, max }
        }
        LogicalType::Char(n) | LogicalType::Varchar(n) | LogicalType::Binary(n) | LogicalType::Varbinary(n) => {
            let length = length(options, field, 100.min(u64::from(*n)))?;
            if length > u64::from(*n) {
                return Err(Error::Validation(format!("{field}.length: {length} exceeds {ty}")));
            }
            let fixed = matches!(ty, LogicalType::Char(_) | LogicalType::Binary(_));
            let variable = options.value(field, "var-len", "true or false")?.unwrap_or(false);
            Values::Text { length: if fixed { u64::from(*n) } else { length }, variable: variable && !fixed }
        }
        LogicalType::Date | LogicalType::Timestamp(_) | LogicalType::TimestampLtz(_) => {
            Values::Time { max_past_ms: options.duration_ms(field, "max-past")?.unwrap_or(0) }
        }
        LogicalType::Time(_) => Values::TimeOfDay,
        LogicalType::Array(element) => Values::List {
            length: length(options, field, 3)?,
            element: Box::new(Generator::new(options, &format!("{field}.element"), &element.logical)?),
        },
        LogicalType::Map(key, value) => Values::Map {
            length: length(options, field, 3)?,
            key: Box::new(Generator::new(options, &format!("{field}.key"), &key.logical)?),
            value: Box::new(Generator::new(options, &format!("{field}.value"), &value.logical)?),
        },
        LogicalType::Multiset(element) => Values::Map {
            length: length(options, field, 3)?,
            key: Box::new(Generator::new(options, &format!("{field}.element"), &element.logical)?),
            value: Box::new(Generator {
                ty: LogicalType::Int,
                null_rate: 0.0,
                values: Values::Integer { min: 1, max: 10 },
            }),
        },
        LogicalType::Row(fields) => Values::Row(
            fields
                .iter()
                .map(|(name, ty)| Generator::new(options, &format!("{field}.{name}"), &ty.logical))
                .collect::<Result<_>>()?,
        ),
        other => return Err(Error::Unsupported(format!("{field}: datagen makes no values of type {other}"))),
    })
}

fn length(options: &FieldOptions<'_>, field: &str, default: u64) -> Result<u64> {
    let length = options.value::<u64>(field, "length", "a length from 0 to 1000000")?.unwrap_or(default);
    if length > 1_000_000 {
        return Err(Error::Validation(format!("{field}.length: {length} is not a length from 0 to 1000000")));
    }
    Ok(length)
}
