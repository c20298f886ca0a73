//! Date and time functions.
//!
//! TIMESTAMP_LTZ values are seen in the session's time zone. Fields of a TIMESTAMP before 1970 come
//! from Java's truncating division, as Flink computes them: its date is cut toward 1970, its hours,
//! minutes and seconds are negative.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, StringBuilder};
use hurtig_graph::LogicalType as T;

use super::pattern::{Pattern, Style};
use super::{Call, Function, interval};
use crate::error::{EngineError, Result};
use crate::expr::cast::{parse_date, parse_timestamp};
use crate::expr::format::Moment;
use crate::expr::value::{Kernel, Longs, Value, argument, retype};
use crate::expr::zone::{DAY_MS, Zone, add_months, civil, day_of_year, days_from_civil, iso_week, iso_weekday};

pub(super) fn find(call: &Call<'_>) -> Result<Option<Function>> {
    let pure = |kernel: Kernel| Ok(Some(Function::pure(kernel)));
    match call.name {
        "EXTRACT" => extract(call).map(Some),
        "FLOOR" | "CEIL" if call.arguments.len() == 2 => round_to_unit(call).map(Some),
        "TIMESTAMPADD" => timestamp_add(call).map(Some),
        "TIMESTAMPDIFF" => timestamp_diff(call).map(Some),
        "DATE_FORMAT" => date_format(call).map(Some),
        "TO_DATE" => to_date(call).map(Some),
        "TO_TIMESTAMP" => to_timestamp(call).map(Some),
        "TO_TIMESTAMP_LTZ" => to_timestamp_ltz(call).map(Some),
        "FROM_UNIXTIME" => from_unixtime(call).map(Some),
        "UNIX_TIMESTAMP" => unix_timestamp(call).map(Some),
        "CONVERT_TZ" => pure(convert_tz()),
        "CURRENT_TIMESTAMP"
        | "NOW"
        | "CURRENT_ROW_TIMESTAMP"
        | "PROCTIME"
        | "CURRENT_DATE"
        | "CURRENT_TIME"
        | "LOCALTIME"
        | "LOCALTIMESTAMP" => now(call).map(Some),
        "PROCTIME_MATERIALIZE" => pure(Arc::new(|values: &[Value], rows| argument(values, 0)?.expand(rows))),
        "CURRENT_WATERMARK" => current_watermark(call).map(Some),
        "OVERLAPS" => overlaps(call).map(Some),
        "INTERVAL_BETWEEN" => interval_between(call).map(Some),
        _ => Ok(None),
    }
}

/// Reads the stored integers of a temporal argument as moments of local time.
struct Moments {
    longs: Longs,
    ty: T,
    zone: Zone,
}

impl Moments {
    fn of(value: &Value, ty: &T, zone: Zone) -> Result<Moments> {
        Ok(Moments { longs: value.longs()?, ty: ty.clone(), zone })
    }

    fn get(&self, row: usize) -> Option<Moment> {
        self.longs.get(row).map(|value| self.moment(value))
    }

    #[inline]
    fn moment(&self, value: i64) -> Moment {
        match &self.ty {
            T::Date => Moment { millis: value * DAY_MS, nanos: 0 },
            T::Timestamp(p) => Moment::from_stored(value, *p),
            T::TimestampLtz(p) => {
                let at = Moment::from_stored(value, *p);
                Moment { millis: self.zone.to_local(at.millis), ..at }
            }
            _ => Moment { millis: value, nanos: 0 },
        }
    }
}

/// A column of integers by row, given the type of the result.
fn integers(
    call: &Call<'_>,
    f: impl Fn(&[Value], usize) -> Result<Vec<Option<i64>>> + Send + Sync + 'static,
) -> Kernel {
    let arrow = call.result.logical.to_arrow();
    Arc::new(move |values, rows| retype(Arc::new(Int64Array::from(f(values, rows)?)), &arrow))
}

fn unit_of<'a>(call: &'a Call<'_>, position: usize) -> Result<&'a str> {
    call.text(position).ok_or_else(|| EngineError::Validation(format!("{} needs its unit as a literal", call.name)))
}

/// EXTRACT(unit, x).
fn extract(call: &Call<'_>) -> Result<Function> {
    let unit = unit_of(call, 0)?.to_owned();
    let ty = call.ty(1)?.clone();
    let zone = call.context.zone;
    let field = field_function(&unit, &ty)?;
    let arrow = call.result.logical.to_arrow();
    Ok(Function::pure(Arc::new(move |values: &[Value], _| {
        let moments = Moments::of(argument(values, 1)?, &ty, zone)?;
        retype(Arc::new(moments.longs.unary(|value| field(moments.moment(value)))), &arrow)
    })))
}

type Field = fn(Moment) -> i64;

fn field_function(unit: &str, ty: &T) -> Result<Field> {
    if *ty == T::IntervalYearMonth {
        return Ok(match unit {
            "YEAR" => |m| m.millis / 12,
            "QUARTER" => |m| m.millis % 12 / 3 + 1,
            "MONTH" => |m| m.millis % 12,
            _ => return Err(no_unit(unit, ty)),
        });
    }
    if *ty == T::IntervalDayTime {
        return Ok(match unit {
            "DAY" => |m| m.millis / DAY_MS,
            _ => time_field(unit).ok_or_else(|| no_unit(unit, ty))?,
        });
    }
    // Function pointers cannot capture, so that each field is spelled out.
    let field: Field = match unit {
        "YEAR" => |m| civil(m.millis / DAY_MS).0,
        "MONTH" => |m| civil(m.millis / DAY_MS).1.into(),
        "DAY" => |m| civil(m.millis / DAY_MS).2.into(),
        "QUARTER" => |m| i64::from(civil(m.millis / DAY_MS).1 - 1) / 3 + 1,
        "DECADE" => |m| civil(m.millis / DAY_MS).0.div_euclid(10),
        "CENTURY" => |m| (civil(m.millis / DAY_MS).0 + 99).div_euclid(100),
        "MILLENNIUM" => |m| (civil(m.millis / DAY_MS).0 + 999).div_euclid(1000),
        "ISOYEAR" => |m| iso_week(m.millis / DAY_MS).0,
        "WEEK" => |m| iso_week(m.millis / DAY_MS).1,
        "DOY" => |m| day_of_year(m.millis / DAY_MS),
        "DOW" => |m| iso_weekday(m.millis / DAY_MS) % 7 + 1,
        "ISODOW" => |m| iso_weekday(m.millis / DAY_MS),
        "EPOCH" => |m| m.millis / 1000,
        _ => time_field(unit).ok_or_else(|| no_unit(unit, ty))?,
    };
    Ok(field)
}

fn time_field(unit: &str) -> Option<Field> {
    Some(match unit {
        "HOUR" => |m| m.millis % DAY_MS / 3_600_000,
        "MINUTE" => |m| m.millis % 3_600_000 / 60_000,
        "SECOND" => |m| m.millis % 60_000 / 1000,
        "MILLISECOND" => |m| m.millis % 1000,
        "MICROSECOND" => |m| m.millis % 1000 * 1000 + i64::from(m.nanos) / 1000,
        "NANOSECOND" => |m| m.millis % 1000 * 1_000_000 + i64::from(m.nanos),
        _ => return None,
    })
}

fn no_unit(unit: &str, ty: &T) -> EngineError {
    EngineError::Validation(format!("{unit} is no unit of {ty}"))
}

/// FLOOR(x, unit) and CEIL(x, unit).
fn round_to_unit(call: &Call<'_>) -> Result<Function> {
    let unit = unit_of(call, 1)?.to_owned();
    let ty = call.ty(0)?.clone();
    let zone = call.context.zone;
    let up = call.name == "CEIL";
    let result = call.result.logical.clone();
    Ok(Function::pure(integers(call, move |values, rows| {
        let moments = Moments::of(argument(values, 0)?, &ty, zone)?;
        (0..rows)
            .map(|row| {
                let Some(at) = moments.get(row) else { return Ok(None) };
                let rounded = round(at, &unit, up, ty == T::Date)?;
                Ok(Some(match &result {
                    T::Date => rounded.div_euclid(DAY_MS),
                    T::TimestampLtz(p) => stored(Moment { millis: zone.to_utc(rounded), nanos: 0 }, *p)?,
                    T::Timestamp(p) => stored(Moment { millis: rounded, nanos: 0 }, *p)?,
                    _ => rounded.rem_euclid(DAY_MS),
                }))
            })
            .collect()
    })))
}

fn stored(at: Moment, precision: u8) -> Result<i64> {
    at.to_stored(precision).ok_or_else(|| {
        EngineError::Runtime(format!(
            "a timestamp is out of the range of TIMESTAMP({precision}): use a precision of at most 6, or 3 for all years"
        ))
    })
}

fn round(at: Moment, unit: &str, up: bool, date: bool) -> Result<i64> {
    let step = match unit {
        "MILLISECOND" => Some(1),
        "SECOND" => Some(1000),
        "MINUTE" => Some(60_000),
        "HOUR" => Some(3_600_000),
        "DAY" if date && up => return Ok(at.millis + DAY_MS),
        "DAY" => Some(DAY_MS),
        _ => None,
    };
    if let Some(step) = step {
        let floor = at.millis.div_euclid(step) * step;
        let exact = at.millis == floor && at.nanos == 0;
        return Ok(if up && !exact { floor + step } else { floor });
    }
    // Units from a week on look at the date alone.
    let days = at.millis / DAY_MS;
    let (year, month, _) = civil(days);
    let (floor, next) = match unit {
        "WEEK" => {
            let start = days - iso_weekday(days) % 7;
            (start, start + 7)
        }
        "MONTH" => {
            let start = days_from_civil(year, month, 1);
            (start, add_months(start, 1))
        }
        "QUARTER" => {
            let start = days_from_civil(year, (month - 1) / 3 * 3 + 1, 1);
            (start, add_months(start, 3))
        }
        _ => {
            let (first, length) = match unit {
                "YEAR" => (year, 1),
                "DECADE" => (year.div_euclid(10) * 10, 10),
                "CENTURY" => ((year - 1).div_euclid(100) * 100 + 1, 100),
                "MILLENNIUM" => ((year - 1).div_euclid(1000) * 1000 + 1, 1000),
                _ => return Err(EngineError::Validation(format!("FLOOR and CEIL know no unit {unit}"))),
            };
            (days_from_civil(first, 1, 1), days_from_civil(first + length, 1, 1))
        }
    };
    let exact = days == floor && unit != "DECADE";
    Ok(if up && !exact { next } else { floor } * DAY_MS)
}

/// TIMESTAMPADD(unit, n, x); the binder gives the result type.
fn timestamp_add(call: &Call<'_>) -> Result<Function> {
    let unit = unit_of(call, 0)?;
    let from = call.ty(2)?.clone();
    let result = call.result.logical.clone();
    let (months, factor) = match unit {
        "MILLENNIUM" => (true, 12_000),
        "CENTURY" => (true, 1200),
        "DECADE" => (true, 120),
        "YEAR" => (true, 12),
        "QUARTER" => (true, 3),
        "MONTH" => (true, 1),
        "WEEK" => (false, 7 * DAY_MS),
        "DAY" => (false, DAY_MS),
        "HOUR" => (false, 3_600_000),
        "MINUTE" => (false, 60_000),
        "SECOND" => (false, 1000),
        "MILLISECOND" => (false, 1),
        other => return Err(EngineError::Validation(format!("TIMESTAMPADD knows no unit {other}"))),
    };
    let kind = if months { T::IntervalYearMonth } else { T::IntervalDayTime };
    let add = interval::shift(&result, &kind)?;
    let widen = from == T::Date && result.is_timestamp();
    let unit = match &result {
        T::Timestamp(4..=6) | T::TimestampLtz(4..=6) => 1000,
        T::Timestamp(7..) | T::TimestampLtz(7..) => 1_000_000,
        _ => 1,
    };
    let kernel = integers(call, move |values, rows| {
        let (count, value) = (argument(values, 1)?.longs()?, argument(values, 2)?.longs()?);
        (0..rows)
            .map(|row| match (count.get(row), value.get(row)) {
                (Some(n), Some(v)) => {
                    let v = if widen { v * DAY_MS * unit } else { v };
                    add(v, n.wrapping_mul(factor)).map(Some)
                }
                _ => Ok(None),
            })
            .collect()
    });
    Ok(Function::fallible(kernel))
}

/// TIMESTAMPDIFF(unit, a, b): b - a, cut toward zero.
fn timestamp_diff(call: &Call<'_>) -> Result<Function> {
    let unit = unit_of(call, 0)?.to_owned();
    let (a, b) = (call.ty(1)?.clone(), call.ty(2)?.clone());
    let difference: fn(Moment, Moment) -> i64 = match unit.as_str() {
        "MILLENNIUM" => |x, y| months_between(x, y) / 12_000,
        "CENTURY" => |x, y| months_between(x, y) / 1200,
        "DECADE" => |x, y| months_between(x, y) / 120,
        "YEAR" => |x, y| months_between(x, y) / 12,
        "QUARTER" => |x, y| months_between(x, y) / 3,
        "MONTH" => months_between,
        "WEEK" => |x, y| millis_between(x, y) / (7 * DAY_MS),
        "DAY" => |x, y| millis_between(x, y) / DAY_MS,
        "HOUR" => |x, y| millis_between(x, y) / 3_600_000,
        "MINUTE" => |x, y| millis_between(x, y) / 60_000,
        "SECOND" => |x, y| millis_between(x, y) / 1000,
        // What is finer than a second is computed from whole seconds.
        "MILLISECOND" => |x, y| (millis_between(x, y) / 1000).wrapping_mul(1000),
        "MICROSECOND" => |x, y| (millis_between(x, y) / 1000).wrapping_mul(1_000_000),
        "NANOSECOND" => |x, y| (millis_between(x, y) / 1000).wrapping_mul(1_000_000_000),
        other => return Err(EngineError::Validation(format!("TIMESTAMPDIFF knows no unit {other}"))),
    };
    Ok(Function::pure(integers(call, move |values, rows| {
        // Instants are compared as such, not as local times.
        let x = Moments::of(argument(values, 1)?, &a, Zone::UTC)?;
        let y = Moments::of(argument(values, 2)?, &b, Zone::UTC)?;
        Ok((0..rows).map(|row| Some(difference(x.get(row)?, y.get(row)?))).collect())
    })))
}

/// INTERVAL_BETWEEN(a, b): a - b, in months or milliseconds by the result's type.
fn interval_between(call: &Call<'_>) -> Result<Function> {
    let (a, b) = (call.ty(0)?.clone(), call.ty(1)?.clone());
    let difference = if call.result.logical == T::IntervalYearMonth { months_between } else { millis_between };
    Ok(Function::pure(integers(call, move |values, rows| {
        let x = Moments::of(argument(values, 0)?, &a, Zone::UTC)?;
        let y = Moments::of(argument(values, 1)?, &b, Zone::UTC)?;
        Ok((0..rows).map(|row| Some(difference(y.get(row)?, x.get(row)?))).collect())
    })))
}

fn millis_between(from: Moment, to: Moment) -> i64 {
    to.millis.wrapping_sub(from.millis)
}

/// Whole months; the last day of a month counts as reached on the last day of any month.
fn months_between(from: Moment, to: Moment) -> i64 {
    let (early, late, sign) = if from <= to { (from, to, 1) } else { (to, from, -1) };
    let (d1, d2) = (early.millis.div_euclid(DAY_MS), late.millis.div_euclid(DAY_MS));
    let ((y1, m1, _), (y2, m2, _)) = (civil(d1), civil(d2));
    let mut months = (y2 - y1) * 12 + i64::from(m2) - i64::from(m1);
    let reached = add_months(d1, months) * DAY_MS + early.millis.rem_euclid(DAY_MS);
    if reached > late.millis {
        months -= 1;
    }
    months * sign
}

/// A pattern argument: read once when it is a literal.
enum PatternArgument {
    Literal(std::result::Result<Pattern, String>),
    Column(usize, Style),
    Default(Pattern),
}

impl PatternArgument {
    fn of(call: &Call<'_>, position: usize, style: Style, default: &str) -> Result<PatternArgument> {
        if position >= call.arguments.len() {
            return Ok(PatternArgument::Default(Pattern::parse(default, style)?));
        }
        Ok(match call.text(position) {
            Some(text) => PatternArgument::Literal(Pattern::parse(text, style).map_err(|e| e.to_string())),
            None => PatternArgument::Column(position, style),
        })
    }

    /// The pattern of all rows, where it is known and right.
    fn known(&self) -> Option<&Pattern> {
        match self {
            PatternArgument::Default(pattern) | PatternArgument::Literal(Ok(pattern)) => Some(pattern),
            PatternArgument::Literal(Err(_)) | PatternArgument::Column(..) => None,
        }
    }

    /// Calls `f` with the pattern of each row; NULL patterns give NULL, bad ones an error.
    fn each<R>(
        &self,
        values: &[Value],
        rows: usize,
        f: impl Fn(usize, &Pattern) -> Result<Option<R>>,
    ) -> Result<Vec<Option<R>>> {
        self.each_with(values, rows, false, f)
    }

    /// With `lenient` a bad pattern is one that matches nothing.
    fn each_with<R>(
        &self,
        values: &[Value],
        rows: usize,
        lenient: bool,
        f: impl Fn(usize, &Pattern) -> Result<Option<R>>,
    ) -> Result<Vec<Option<R>>> {
        match self {
            PatternArgument::Default(pattern) | PatternArgument::Literal(Ok(pattern)) => {
                (0..rows).map(|row| f(row, pattern)).collect()
            }
            PatternArgument::Literal(Err(_)) if lenient => (0..rows).map(|row| f(row, &Pattern::nothing())).collect(),
            PatternArgument::Literal(Err(message)) => Err(EngineError::Runtime(message.clone())),
            PatternArgument::Column(position, style) => {
                let texts = argument(values, *position)?.view::<StringArray>()?;
                let mut known: HashMap<&str, Pattern> = HashMap::new();
                let mut out = Vec::with_capacity(rows);
                for row in 0..rows {
                    let Some(text) = texts.get(row) else {
                        out.push(None);
                        continue;
                    };
                    if !known.contains_key(text) {
                        let pattern = match Pattern::parse(text, *style) {
                            Err(_) if lenient => Pattern::nothing(),
                            parsed => parsed?,
                        };
                        known.insert(text, pattern);
                    }
                    out.push(match known.get(text) {
                        Some(pattern) => f(row, pattern)?,
                        None => None,
                    });
                }
                Ok(out)
            }
        }
    }
}

const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

/// DATE_FORMAT(timestamp or string, pattern).
fn date_format(call: &Call<'_>) -> Result<Function> {
    let ty = call.ty(0)?.clone();
    let style = if ty.is_string() { Style::Legacy } else { Style::Modern };
    let pattern = PatternArgument::of(call, 1, style, DEFAULT_PATTERN)?;
    let zone = call.context.zone;
    Ok(Function::fallible(Arc::new(move |values: &[Value], rows: usize| {
        let value = argument(values, 0)?;
        let array: StringArray = if ty.is_string() {
            let texts = value.view::<StringArray>()?;
            let default = Pattern::parse(DEFAULT_PATTERN, Style::Modern)?;
            let read = |s: &str| default.read(s).map(|(at, _)| at);
            pattern
                .each(values, rows, |row, pattern| {
                    texts.get(row).and_then(read).map(|at| pattern.format(at, Some(zone))).transpose()
                })?
                .into()
        } else {
            let moments = Moments::of(value, &ty, zone)?;
            match pattern.known() {
                Some(pattern) => written(pattern, &moments, rows)?,
                None => pattern
                    .each(values, rows, |row, pattern| moments.get(row).map(|at| pattern.format(at, None)).transpose())?
                    .into(),
            }
        };
        Ok(Arc::new(array) as ArrayRef)
    })))
}

/// The text of each moment. Rows in a row are mostly of the same day, and are written once.
fn written(pattern: &Pattern, moments: &Moments, rows: usize) -> Result<StringArray> {
    let unit_ms = pattern.unit_ms();
    let mut texts = StringBuilder::with_capacity(rows, rows * DEFAULT_PATTERN.len());
    let mut last: Option<(i64, String)> = None;
    for row in 0..rows {
        let Some(at) = moments.get(row) else {
            texts.append_null();
            continue;
        };
        let number = unit_ms.map(|unit| at.millis.div_euclid(unit));
        let text = match last.take() {
            Some((known, text)) if Some(known) == number => text,
            _ => pattern.format(at, None)?,
        };
        texts.append_value(&text);
        last = number.map(|number| (number, text));
    }
    Ok(texts.finish())
}

/// TO_DATE(s [, pattern]): NULL for what cannot be read.
fn to_date(call: &Call<'_>) -> Result<Function> {
    if call.arguments.len() == 1 {
        return Ok(Function::pure(integers(call, |values, rows| {
            let texts = argument(values, 0)?.view::<StringArray>()?;
            Ok((0..rows).map(|row| texts.get(row).and_then(parse_date)).collect())
        })));
    }
    let pattern = PatternArgument::of(call, 1, Style::Legacy, "yyyy-MM-dd")?;
    Ok(Function::fallible(integers(call, move |values, rows| {
        let texts = argument(values, 0)?.view::<StringArray>()?;
        pattern.each(values, rows, |row, pattern| {
            Ok(texts.get(row).and_then(|s| pattern.read(s)).map(|(at, _)| at.millis.div_euclid(DAY_MS)))
        })
    })))
}

/// TO_TIMESTAMP(s [, pattern]): NULL for what cannot be read.
fn to_timestamp(call: &Call<'_>) -> Result<Function> {
    let precision = timestamp_precision(&call.result.logical);
    if call.arguments.len() == 1 {
        return Ok(Function::pure(integers(call, move |values, rows| {
            let texts = argument(values, 0)?.view::<StringArray>()?;
            let read = |s| parse_timestamp(s).and_then(|at| at.to_stored(precision));
            Ok((0..rows).map(|row| texts.get(row).and_then(read)).collect())
        })));
    }
    let pattern = PatternArgument::of(call, 1, Style::Modern, DEFAULT_PATTERN)?;
    Ok(Function::fallible(integers(call, move |values, rows| {
        let texts = argument(values, 0)?.view::<StringArray>()?;
        pattern.each_with(values, rows, true, |row, pattern| {
            let Some(text) = texts.get(row) else { return Ok(None) };
            // What the pattern does not match is tried in the format of casts.
            let at = pattern.read(text).map(|(at, _)| at).or_else(|| parse_timestamp(text));
            Ok(at.and_then(|at| at.to_stored(precision)))
        })
    })))
}

fn timestamp_precision(ty: &T) -> u8 {
    match ty {
        T::Timestamp(p) | T::TimestampLtz(p) => *p,
        _ => 3,
    }
}

/// TO_TIMESTAMP_LTZ(number [, precision]) and TO_TIMESTAMP_LTZ(string [, pattern [, zone]]), whose
/// default zone is UTC.
fn to_timestamp_ltz(call: &Call<'_>) -> Result<Function> {
    let precision = timestamp_precision(&call.result.logical);
    if call.ty(0)?.is_numeric() {
        return Ok(Function::pure(epoch_to_ltz(call, precision)));
    }
    let pattern = PatternArgument::of(call, 1, Style::Modern, DEFAULT_PATTERN)?;
    let plain = call.arguments.len() == 1;
    let zoned = call.arguments.len() > 2;
    Ok(Function::fallible(integers(call, move |values, rows| {
        let texts = argument(values, 0)?.view::<StringArray>()?;
        let zones = if zoned { Some(argument(values, 2)?.view::<StringArray>()?) } else { None };
        pattern.each_with(values, rows, true, |row, pattern| {
            let Some(text) = texts.get(row) else { return Ok(None) };
            let zone = match &zones {
                Some(zones) => match zones.get(row) {
                    Some(name) => Zone::parse(name).ok_or_else(|| {
                        EngineError::Runtime(format!("TO_TIMESTAMP_LTZ: there is no time zone '{name}'"))
                    })?,
                    None => return Ok(None),
                },
                None => Zone::UTC,
            };
            let read = if plain { None } else { pattern.read(text) };
            let read = read.or_else(|| parse_timestamp(text).map(|at| (at, None)));
            if plain && read.is_none() {
                return Err(EngineError::Runtime(format!(
                    "TO_TIMESTAMP_LTZ cannot read '{text}': it needs yyyy-MM-dd HH:mm:ss"
                )));
            }
            Ok(read.and_then(|(at, offset)| {
                let millis = offset.map_or_else(|| zone.to_utc(at.millis), |offset| at.millis - offset);
                Moment { millis, ..at }.to_stored(precision)
            }))
        })
    })))
}

fn epoch_to_ltz(call: &Call<'_>, precision: u8) -> Kernel {
    let digits = call.int(1);
    integers(call, move |values, rows| {
        let value = argument(values, 0)?;
        let digits_of_row = if values.len() > 1 { Some(argument(values, 1)?.longs()?) } else { None };
        let digits_at = |row: usize| match (&digits, &digits_of_row) {
            (Some(digits), _) => Some(*digits),
            (None, Some(column)) => column.get(row),
            (None, None) => Some(3),
        };
        let convert = |value: i64, digits: i64| -> Option<i64> {
            let digits = u32::try_from(digits).ok().filter(|d| *d <= 9)?;
            let at = if digits <= 3 {
                Moment { millis: value.checked_mul(10_i64.pow(3 - digits))?, nanos: 0 }
            } else {
                let unit = 10_i64.pow(digits - 3);
                let nanos = value.rem_euclid(unit) * 10_i64.pow(9 - digits);
                Moment { millis: value.div_euclid(unit), nanos: nanos as i32 }
            };
            // 0001-01-01 to 9999-12-31
            (-62_135_596_800_000..=253_402_300_799_999).contains(&at.millis).then(|| at.to_stored(precision))?
        };
        if value.array.data_type().is_floating() {
            let doubles = value.view::<Float64Array>()?;
            return Ok((0..rows)
                .map(|row| {
                    let digits = digits_at(row)?;
                    let millis = doubles.get(row)? * 10_f64.powi(3 - digits as i32);
                    convert(millis as i64, 3)
                })
                .collect());
        }
        let longs = value.longs()?;
        Ok((0..rows).map(|row| convert(longs.get(row)?, digits_at(row)?)).collect())
    })
}

/// FROM_UNIXTIME(seconds [, pattern]) in the session zone.
fn from_unixtime(call: &Call<'_>) -> Result<Function> {
    let pattern = PatternArgument::of(call, 1, Style::Legacy, DEFAULT_PATTERN)?;
    let zone = call.context.zone;
    Ok(Function::fallible(Arc::new(move |values: &[Value], rows: usize| {
        let seconds = argument(values, 0)?.longs()?;
        let texts = pattern.each(values, rows, |row, pattern| {
            let Some(seconds) = seconds.get(row) else { return Ok(None) };
            let local = zone.to_local(seconds.wrapping_mul(1000));
            pattern.format(Moment { millis: local, nanos: 0 }, Some(zone)).map(Some)
        })?;
        Ok(Arc::new(StringArray::from(texts)) as ArrayRef)
    })))
}

/// UNIX_TIMESTAMP() and UNIX_TIMESTAMP(s [, pattern]): seconds; the smallest BIGINT for what cannot
/// be read.
fn unix_timestamp(call: &Call<'_>) -> Result<Function> {
    let zone = call.context.zone;
    if call.arguments.is_empty() {
        let clock = Arc::clone(&call.context.clock);
        return Ok(Function::volatile(Arc::new(move |_: &[Value], rows| {
            Ok(Arc::new(Int64Array::from_value(clock.now_ms().div_euclid(1000), rows)) as ArrayRef)
        })));
    }
    let pattern = PatternArgument::of(call, 1, Style::Legacy, DEFAULT_PATTERN)?;
    Ok(Function::fallible(integers(call, move |values, rows| {
        let texts = argument(values, 0)?.view::<StringArray>()?;
        pattern.each(values, rows, |row, pattern| {
            let Some(text) = texts.get(row) else { return Ok(None) };
            Ok(Some(match pattern.read(text) {
                Some((at, Some(offset))) => (at.millis - offset).div_euclid(1000),
                Some((at, None)) => zone.to_utc_late(at.millis).div_euclid(1000),
                None => i64::MIN,
            }))
        })
    })))
}

/// CONVERT_TZ(s, from, to): an unknown zone is UTC, unreadable text gives NULL.
fn convert_tz() -> Kernel {
    Arc::new(|values: &[Value], rows: usize| {
        let text = argument(values, 0)?.view::<StringArray>()?;
        let from = argument(values, 1)?.view::<StringArray>()?;
        let to = argument(values, 2)?.view::<StringArray>()?;
        let pattern = Pattern::parse(DEFAULT_PATTERN, Style::Legacy)?;
        let zone = |name: &str| {
            // A bare offset is no zone id here.
            if name.starts_with(['+', '-']) { Zone::UTC } else { Zone::parse_java(name).unwrap_or(Zone::UTC) }
        };
        let array = (0..rows)
            .map(|row| {
                let (Some(text), Some(from), Some(to)) = (text.get(row), from.get(row), to.get(row)) else {
                    return Ok(None);
                };
                let Some((at, _)) = pattern.read(text) else { return Ok(None) };
                let millis = zone(to).to_local(zone(from).to_utc_late(at.millis));
                pattern.format(Moment { millis, nanos: 0 }, None).map(Some)
            })
            .collect::<Result<StringArray>>()?;
        Ok(Arc::new(array) as ArrayRef)
    })
}

/// The current time, one for all rows of a batch.
fn now(call: &Call<'_>) -> Result<Function> {
    let clock = Arc::clone(&call.context.clock);
    let zone = call.context.zone;
    let ty = call.result.logical.clone();
    let arrow = ty.to_arrow();
    Ok(Function::volatile(Arc::new(move |_: &[Value], rows| {
        let now = clock.now_ms();
        let value = match &ty {
            T::Date => zone.to_local(now).div_euclid(DAY_MS),
            T::Time(_) => zone.to_local(now).rem_euclid(DAY_MS) / 1000 * 1000,
            T::Timestamp(p) => stored(Moment { millis: zone.to_local(now), nanos: 0 }, *p)?,
            T::TimestampLtz(p) => stored(Moment { millis: now, nanos: 0 }, *p)?,
            other => return Err(EngineError::Internal(format!("the current time as {other}"))),
        };
        retype(Arc::new(Int64Array::from_value(value, rows)), &arrow)
    })))
}

fn current_watermark(call: &Call<'_>) -> Result<Function> {
    let watermark = Arc::clone(&call.context.watermark);
    let arrow = call.result.logical.to_arrow();
    Ok(Function::volatile(Arc::new(move |_: &[Value], rows| {
        let now = watermark.load(Ordering::Relaxed);
        let value = (now != i64::MIN).then_some(now);
        retype(Arc::new(Int64Array::from(vec![value; rows])), &arrow)
    })))
}

/// OVERLAPS(a, b, c, d): the periods a..b and c..d have a point in common. All of one type.
fn overlaps(_: &Call<'_>) -> Result<Function> {
    Ok(Function::pure(Arc::new(|values: &[Value], rows: usize| {
        let longs = (0..4).map(|i| argument(values, i)?.longs()).collect::<Result<Vec<_>>>()?;
        let array: arrow::array::BooleanArray = (0..rows)
            .map(|row| {
                let (a, b, c, d) = (longs[0].get(row)?, longs[1].get(row)?, longs[2].get(row)?, longs[3].get(row)?);
                Some(a.max(b) >= c.min(d) && c.max(d) >= a.min(b))
            })
            .collect();
        Ok(Arc::new(array) as ArrayRef)
    })))
}
