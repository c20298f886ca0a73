//! Text to everything else.

use std::sync::Arc;

use arrow::array::{BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int64Array, StringArray};
use hurtig_graph::LogicalType as T;

use super::decimal::{POWERS_OF_TEN, div_half_up, fits};
use super::no_cast;
use crate::error::{EngineError, Result};
use crate::expr::format::Moment;
use crate::expr::value::{Kernel, Value, argument, retype};
use crate::expr::zone::{DAY_MS, Zone, days_from_civil, month_length};

/// Text of type `from` to `to`.
pub(super) fn cast(from: &T, to: &T, safe: bool, zone: Zone) -> Result<Kernel> {
    let arrow = to.to_arrow();
    let name = to.to_string();
    macro_rules! parse {
        ($array:ty, $f:expr) => {{
            Arc::new(move |values: &[Value], rows: usize| {
                let text = argument(values, 0)?.view::<StringArray>()?;
                let array = (0..rows)
                    .map(|row| {
                        let Some(s) = text.get(row) else { return Ok(None) };
                        match $f(s) {
                            None if !safe => Err(unreadable(s, &name)),
                            parsed => Ok(parsed),
                        }
                    })
                    .collect::<Result<$array>>()?;
                retype(Arc::new(array), &arrow)
            }) as Kernel
        }};
    }
    Ok(match to {
        T::Boolean => parse!(BooleanArray, parse_boolean),
        T::TinyInt => parse!(Int64Array, |s| parse_integer(s, i8::MIN.into(), i8::MAX.into())),
        T::SmallInt => parse!(Int64Array, |s| parse_integer(s, i16::MIN.into(), i16::MAX.into())),
        T::Int => parse!(Int64Array, |s| parse_integer(s, i32::MIN.into(), i32::MAX.into())),
        T::BigInt => parse!(Int64Array, |s| parse_integer(s, i64::MIN, i64::MAX)),
        T::Float => parse!(Float32Array, parse_float),
        T::Double => parse!(Float64Array, parse_double),
        T::Decimal(p, s) => {
            let (p, s) = (*p, *s);
            parse!(Decimal128Array, |text: &str| parse_decimal(text.trim(), p, s))
        }
        T::Date => parse!(Int64Array, parse_date),
        T::Time(p) => {
            let step = 10_i64.pow(3 - u32::from(*p.min(&3)));
            parse!(Int64Array, |s| parse_time(s).map(|ms| ms - ms % step))
        }
        T::Timestamp(p) => {
            let p = *p;
            parse!(Int64Array, |s| parse_timestamp(s).and_then(|m| m.to_stored(p)))
        }
        T::TimestampLtz(p) => {
            let p = *p;
            parse!(Int64Array, |s| {
                parse_timestamp(s).and_then(|m| Moment { millis: zone.to_utc(m.millis), ..m }.to_stored(p))
            })
        }
        T::Binary(_) | T::Varbinary(_) => {
            let length = super::text::byte_length(to);
            Arc::new(move |values: &[Value], rows: usize| {
                let text = argument(values, 0)?.view::<StringArray>()?;
                let array: BinaryArray =
                    (0..rows).map(|row| text.get(row).map(|s| super::text::fit_bytes(s.as_bytes(), length))).collect();
                Ok(Arc::new(array) as arrow::array::ArrayRef)
            })
        }
        other => return Err(no_cast(from, other)),
    })
}

fn unreadable(text: &str, to: &str) -> EngineError {
    EngineError::Runtime(format!(
        "cannot cast the string '{text}' to {to}: correct the data, or use TRY_CAST to get NULL for it"
    ))
}

fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// An integer; a fraction is allowed and cut off, an exponent is not.
pub fn parse_integer(text: &str, min: i64, max: i64) -> Option<i64> {
    let text = text.trim_matches(is_space);
    let (digits, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if !unsigned.bytes().all(|b| b.is_ascii_digit()) || unsigned.is_empty() && fraction.is_empty() {
        return None;
    }
    if unsigned.is_empty() {
        return Some(0);
    }
    digits.parse::<i64>().ok().filter(|v| (min..=max).contains(v))
}

fn is_space(c: char) -> bool {
    c <= ' '
}

/// A double as Java reads it: `1.5`, `1e5`, `NaN`, `-Infinity`, `1d`, `0x1p3`.
pub fn parse_double(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    match java_number(text)? {
        JavaNumber::Value(value) => Some(value),
        JavaNumber::Decimal(digits) => digits.parse().ok(),
    }
}

fn parse_float(text: &str) -> Option<f32> {
    let text = text.trim_matches(is_space);
    match java_number(text)? {
        JavaNumber::Value(value) => Some(value as f32),
        JavaNumber::Decimal(digits) => digits.parse().ok(),
    }
}

enum JavaNumber<'a> {
    Value(f64),
    /// Plain decimal digits with an optional exponent.
    Decimal(&'a str),
}

fn java_number(text: &str) -> Option<JavaNumber<'_>> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    match unsigned {
        "NaN" => return Some(JavaNumber::Value(f64::NAN)),
        "Infinity" => return Some(JavaNumber::Value(sign * f64::INFINITY)),
        _ => {}
    }
    let strip = |s| str::strip_suffix(s, ['d', 'D', 'f', 'F']).unwrap_or(s);
    if let Some(hex) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        return hex_double(strip(hex)).map(|v| JavaNumber::Value(sign * v));
    }
    let plain = strip(text);
    let allowed = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    let has_digit = plain.bytes().any(|b| b.is_ascii_digit());
    (has_digit && plain.chars().all(allowed)).then_some(JavaNumber::Decimal(plain))
}

fn hex_double(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 13 {
        return None;
    }
    let value = u64::from_str_radix(&digits, 16).ok()?;
    Some(value as f64 * 2f64.powi(exponent - 4 * fraction.len() as i32))
}

/// A decimal with optional exponent, rounded half up to `scale`; `None` when it is no number or has
/// more than `precision` digits.
pub fn parse_decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    // value = digits * 10^shift at the wanted scale
    let shift = i64::from(exponent) - fraction.len() as i64 + i64::from(scale);
    let unscaled = if digits.is_empty() {
        0
    } else if shift >= 0 {
        if digits.len() as i64 + shift > 38 {
            return None;
        }
        digits.parse::<i128>().ok()? * POWERS_OF_TEN[shift as usize]
    } else {
        // Keep one digit more than wanted: it decides the rounding.
        let keep = digits.len() as i64 + shift + 1;
        if keep > 39 {
            return None;
        }
        if keep <= 0 {
            0
        } else {
            let kept = digits[..keep as usize].parse::<i128>().ok()?;
            div_half_up(kept, 10)
        }
    };
    let value = if negative { -unscaled } else { unscaled };
    fits(value, precision).then_some(value)
}

/// Digits only, at most `most` of them.
fn number(text: &str, most: usize) -> Option<i64> {
    let ok = !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
    if ok { text.parse().ok() } else { None }
}

/// `2020`, `2020-05`, `2020-5-7`, each with anything after a space; days since 1970.
pub fn parse_date(text: &str) -> Option<i64> {
    let text = text.trim_matches(is_space);
    let text = text.split_once(' ').map_or(text, |(date, _)| date);
    let mut parts = text.splitn(3, '-');
    let year = number(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |m| number(m, 2))?;
    let day = parts.next().map_or(Some(1), |d| number(d, 2))?;
    valid_date(year, month, day)
}

fn valid_date(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || day < 1 || day > i64::from(month_length(year, month as u32)) {
        return None;
    }
    Some(days_from_civil(year, month as u32, day as u32))
}

/// `12`, `12:34`, `12:34:56`, `12:34:56.789`; ms of the day, finer digits cut.
pub fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim_matches(is_space);
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, fraction_nanos(fraction)?),
        None => (text, 0),
    };
    let mut parts = clock.splitn(3, ':');
    let hour = number(parts.next()?, 2)?;
    let minute = parts.next().map_or(Some(0), |m| number(m, 2))?;
    let second = parts.next().map_or(Some(0), |s| number(s, 2))?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(((hour * 60 + minute) * 60 + second) * 1000 + fraction / 1_000_000)
}

fn fraction_nanos(digits: &str) -> Option<i64> {
    let value = number(digits, 9)?;
    Some(value * 10_i64.pow(9 - digits.len() as u32))
}

/// `2020-5-7`, `2020-5-7 1:2:3`, `2020-05-07 01:02:03.456789`. A day that the month does not have,
/// up to 31, is the last of the month.
pub fn parse_timestamp(text: &str) -> Option<Moment> {
    let (date, clock) = match text.split_once(' ') {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let day = day.min(i64::from(month_length(year, month as u32)));
    let days = days_from_civil(year, month as u32, day as u32);
    let Some(clock) = clock else {
        return Some(Moment { millis: days * DAY_MS, nanos: 0 });
    };
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, fraction_nanos(fraction)?),
        None => (clock, 0),
    };
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    // 24:00:00 is midnight of the next day.
    let end_of_day = hour == 24 && minute == 0 && second == 0 && fraction == 0;
    if (hour > 23 && !end_of_day) || minute > 59 || second > 59 {
        return None;
    }
    let millis = days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + fraction / 1_000_000;
    Some(Moment { millis, nanos: (fraction % 1_000_000) as i32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_cut_fractions_and_refuse_the_rest() {
        let int = |s| parse_integer(s, i32::MIN.into(), i32::MAX.into());
        assert_eq!(int("12.9"), Some(12));
        assert_eq!(int(" -12 "), Some(-12));
        assert_eq!(int("12."), Some(12));
        for bad in ["", " ", "1e3", "12abc", "0x1F", "2147483648", "1_000", "٣", "."] {
            assert_eq!(int(bad), None, "{bad}");
        }
    }

    #[test]
    fn doubles_as_java_reads_them() {
        assert_eq!(parse_double("1e400"), Some(f64::INFINITY));
        assert_eq!(parse_double(" 2.5 "), Some(2.5));
        assert_eq!(parse_double("5."), Some(5.0));
        assert_eq!(parse_double("1d"), Some(1.0));
        assert_eq!(parse_double("0x1p3"), Some(8.0));
        assert!(parse_double("NaN").unwrap().is_nan());
        for bad in ["", "nan", "inf", "--1", "1e", "abc"] {
            assert_eq!(parse_double(bad), None, "{bad}");
        }
    }

    #[test]
    fn decimals_round_half_up() {
        assert_eq!(parse_decimal("1.0005", 8, 3), Some(1001));
        assert_eq!(parse_decimal("1e2", 8, 3), Some(100_000));
        assert_eq!(parse_decimal("-0.0005", 8, 3), Some(-1));
        assert_eq!(parse_decimal("0.00004", 8, 3), Some(0));
        assert_eq!(parse_decimal("123456.7", 8, 3), None);
        assert_eq!(parse_decimal("NaN", 8, 3), None);
    }

    #[test]
    fn dates_and_times() {
        assert_eq!(parse_date("2024-2-9"), Some(days_from_civil(2024, 2, 9)));
        assert_eq!(parse_date("2024"), Some(days_from_civil(2024, 1, 1)));
        assert_eq!(parse_date("2024-02-29 10:00:00"), Some(days_from_civil(2024, 2, 29)));
        for bad in ["2023-02-29", "2024-13-01", "2024/02/29", "20240229", "", "2024-02-29T10:00:00"] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
        let at = |s| parse_timestamp(s).map(|m| m.millis);
        assert_eq!(at("2024-02-30 00:00:00"), at("2024-02-29"));
        assert_eq!(at("2024-02-29 24:00:00"), at("2024-03-01"));
        for bad in ["2024-02-29 12:34", "2024-02-29T12:34:56", "2024-02-29  12:34:56", "", "12"] {
            assert_eq!(at(bad), None, "{bad}");
        }
        assert_eq!(parse_time("12"), Some(12 * 3_600_000));
        assert_eq!(parse_time("24:00:00"), None);
    }
}
