//! Literals: numbers, strings, dates, times, timestamps, intervals.

use hurtig_graph::{Expr, Literal, LogicalType as T};
use sqlparser::ast::{DateTimeField, Expr as Ast, Interval, Value};

use crate::error::SqlError;

/// A number as written, `negative` if a minus stands before it.
pub(super) fn number(text: &str, negative: bool) -> Result<Expr, SqlError> {
    let out_of_range = || {
        SqlError::validation(format!(
            "the numeric literal '{text}' is out of range: write it as CAST('{text}' AS DECIMAL(p, s))"
        ))
    };
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().map_err(|_| out_of_range())?;
        if !value.is_finite() {
            return Err(out_of_range());
        }
        let value = if negative { -value } else { value };
        return Ok(Expr::literal(Literal::Double(value), T::Double.not_null()));
    }
    let sign = if negative { "-" } else { "" };
    let Some((whole, fraction)) = text.split_once('.') else {
        let value: i64 = format!("{sign}{text}").parse().map_err(|_| out_of_range())?;
        let ty = if i32::try_from(value).is_ok() { T::Int } else { T::BigInt };
        return Ok(Expr::literal(Literal::Int(value), ty.not_null()));
    };
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').len();
    if significant > 19 || fraction.len() > 38 {
        return Err(out_of_range());
    }
    let unscaled: i128 = format!("{sign}{digits}").parse().map_err(|_| out_of_range())?;
    let precision = digits.len().clamp(1, 38) as u8;
    Ok(Expr::literal(Literal::Decimal(unscaled), T::Decimal(precision, fraction.len() as u8).not_null()))
}

/// A character string: CHAR of its length in UTF-16 units, as Java counts.
pub(super) fn string(text: &str) -> Expr {
    let length = text.encode_utf16().count() as u32;
    Expr::literal(Literal::String(text.to_owned()), T::Char(length).not_null())
}

/// `x'0102'`.
pub(super) fn hex(text: &str) -> Result<Expr, SqlError> {
    let bad = || SqlError::validation(format!("x'{text}' is no binary literal: it needs pairs of hexadecimal digits"));
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(bad());
    }
    let bytes = (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| bad()))
        .collect::<Result<Vec<u8>, _>>()?;
    let length = bytes.len() as u32;
    Ok(Expr::literal(Literal::Bytes(bytes), T::Binary(length).not_null()))
}

/// The value of a plain SQL value node.
pub(super) fn value(value: &Value) -> Result<Expr, SqlError> {
    match value {
        Value::Number(text, true) => {
            Err(SqlError::parse(format!("'{text}L' is no number: write CAST({text} AS BIGINT)"), None))
        }
        Value::Number(text, false) => number(text, false),
        Value::SingleQuotedString(text) | Value::NationalStringLiteral(text) | Value::UnicodeStringLiteral(text) => {
            Ok(string(text))
        }
        Value::HexStringLiteral(text) => hex(text),
        Value::Boolean(value) => Ok(Expr::literal(Literal::Boolean(*value), T::Boolean.not_null())),
        Value::Null => Ok(Expr::literal(Literal::Null, T::Null.nullable())),
        Value::DoubleQuotedString(text) => Err(SqlError::parse(
            format!(
                "\"{text}\" is no identifier and no string: quote identifiers with back-ticks, strings with single quotes"
            ),
            None,
        )),
        Value::Placeholder(text) => {
            Err(SqlError::validation(format!("the parameter {text} has no value: parameters are not supported here")))
        }
        other => Err(SqlError::parse(format!("{other} is no literal of Flink SQL"), None)),
    }
}

fn digits(text: &str, most: usize) -> Option<i64> {
    let ok = !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
    if ok { text.parse().ok() } else { None }
}

/// `2024-2-9` as days since 1970.
fn date(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if year < 1 {
        return None;
    }
    // The days that the switch to the Gregorian calendar left out.
    if year == 1582 && month == 10 && (5..=14).contains(&day) {
        return None;
    }
    let date = chrono::NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32)?;
    Some(date.signed_duration_since(chrono::NaiveDate::default()).num_days())
}

/// `12:34:56[.f]` as milliseconds of the day, nanoseconds of the millisecond and fraction digits.
fn time(text: &str) -> Option<(i64, i64, usize)> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if hour > 23 || minute > 59 || second > 59 || (text.contains('.') && digits(fraction, 9).is_none()) {
        return None;
    }
    let nanos = digits(&format!("{fraction:0<9}"), 9)?;
    let millis = ((hour * 60 + minute) * 60 + second) * 1000 + nanos / 1_000_000;
    Some((millis, nanos % 1_000_000, fraction.len()))
}

/// `DATE '...'`.
pub(super) fn date_literal(text: &str) -> Result<Expr, SqlError> {
    let days =
        date(text).ok_or_else(|| SqlError::validation(format!("'{text}' is no date: write DATE 'yyyy-MM-dd'")))?;
    Ok(Expr::literal(Literal::Int(days), T::Date.not_null()))
}

/// `TIME '...'`, of millisecond precision at most.
pub(super) fn time_literal(text: &str) -> Result<Expr, SqlError> {
    let (millis, _, precision) =
        time(text).ok_or_else(|| SqlError::validation(format!("'{text}' is no time: write TIME 'HH:mm:ss[.f]'")))?;
    Ok(Expr::literal(Literal::Int(millis), T::Time(precision.min(3) as u8).not_null()))
}

/// `TIMESTAMP '...'`, of the precision written.
pub(super) fn timestamp_literal(text: &str) -> Result<Expr, SqlError> {
    let bad = || SqlError::validation(format!("'{text}' is no timestamp: write TIMESTAMP 'yyyy-MM-dd HH:mm:ss[.f]'"));
    let (day, clock) = text.split_once(' ').unwrap_or((text, "00:00:00"));
    let days = date(day).ok_or_else(bad)?;
    let (millis, nanos, precision) = time(clock).ok_or_else(bad)?;
    let millis = days * 86_400_000 + millis;
    let stored = match precision {
        0..=3 => Some(millis),
        4..=6 => millis.checked_mul(1000).and_then(|v| v.checked_add(nanos / 1000)),
        _ => millis.checked_mul(1_000_000).and_then(|v| v.checked_add(nanos)),
    };
    Ok(Expr::literal(Literal::Int(stored.ok_or_else(bad)?), T::Timestamp(precision as u8).not_null()))
}

/// The name of a unit, singular.
pub(super) fn unit_name(field: &DateTimeField) -> String {
    match field {
        DateTimeField::Custom(ident) => ident.value.to_uppercase(),
        DateTimeField::Week(None) => "WEEK".to_owned(),
        other => other.to_string().to_uppercase(),
    }
}

const DAY_MS: i64 = 86_400_000;

fn unit_millis(unit: &str) -> Option<i64> {
    Some(match unit {
        "WEEK" => 7 * DAY_MS,
        "DAY" => DAY_MS,
        "HOUR" => 3_600_000,
        "MINUTE" => 60_000,
        "SECOND" => 1000,
        _ => return None,
    })
}

fn unit_months(unit: &str) -> Option<i64> {
    Some(match unit {
        "YEAR" => 12,
        "QUARTER" => 3,
        "MONTH" => 1,
        _ => return None,
    })
}

/// `INTERVAL '1-2' YEAR TO MONTH`, `INTERVAL '1' DAY`.
pub(super) fn interval(interval: &Interval) -> Result<Expr, SqlError> {
    let text = match interval.value.as_ref() {
        Ast::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            Value::Number(text, _) => text.clone(),
            other => {
                return Err(SqlError::validation(format!("INTERVAL {other}: the value must be a string or number")));
            }
        },
        other => return Err(SqlError::validation(format!("INTERVAL {other}: the value must be a literal"))),
    };
    let Some(leading) = interval.leading_field.as_ref().map(unit_name) else {
        return Err(SqlError::parse(format!("INTERVAL '{text}' needs a unit, as DAY or YEAR TO MONTH"), None));
    };
    let last = interval.last_field.as_ref().map(unit_name);
    let most = interval.leading_precision.unwrap_or(2) as usize;
    let bad = || {
        let to = last.as_ref().map(|l| format!(" TO {l}")).unwrap_or_default();
        SqlError::validation(format!(
            "INTERVAL '{text}' {leading}{to} is not valid: the first field has at most {most} digits, write {leading}(n) for more"
        ))
    };
    let trimmed = text.trim();
    let (sign, body) = match trimmed.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    if let Some(factor) = unit_months(&leading) {
        let months = match last.as_deref() {
            None => digits(body, most).ok_or_else(bad)? * factor,
            Some("MONTH") if leading == "YEAR" => {
                let (years, months) = body.split_once('-').ok_or_else(bad)?;
                let months = digits(months, 2).filter(|m| *m < 12).ok_or_else(bad)?;
                digits(years, most).ok_or_else(bad)? * 12 + months
            }
            Some(_) => return Err(bad()),
        };
        return Ok(Expr::literal(Literal::Int(sign * months), T::IntervalYearMonth.not_null()));
    }
    let millis = day_time(body, &leading, last.as_deref(), most).ok_or_else(bad)?;
    Ok(Expr::literal(Literal::Int(sign * millis), T::IntervalDayTime.not_null()))
}

/// The fields of a day-time interval from `leading` to `last`.
fn day_time(body: &str, leading: &str, last: Option<&str>, most: usize) -> Option<i64> {
    const UNITS: [&str; 4] = ["DAY", "HOUR", "MINUTE", "SECOND"];
    let last = last.unwrap_or(leading);
    if leading == "WEEK" && last == "WEEK" {
        return Some(digits(body, most)? * 7 * DAY_MS);
    }
    let from = UNITS.iter().position(|u| *u == leading)?;
    let to = UNITS.iter().position(|u| *u == last)?;
    if from > to {
        return None;
    }
    let mut rest = body;
    let mut millis = 0;
    for (at, unit) in UNITS.iter().enumerate().take(to + 1).skip(from) {
        let separator = if *unit == "DAY" { ' ' } else { ':' };
        let (part, after) = if at == to { (rest, "") } else { rest.split_once(separator)? };
        let (whole, fraction) = if *unit == "SECOND" { part.split_once('.').unwrap_or((part, "")) } else { (part, "") };
        let value = digits(whole, if at == from { most } else { 2 })?;
        let limit = match *unit {
            "HOUR" => 24,
            "DAY" => i64::MAX,
            _ => 60,
        };
        if at > from && value >= limit {
            return None;
        }
        millis += value * unit_millis(unit)?;
        if !fraction.is_empty() {
            millis += digits(&format!("{fraction:0<9}"), 9)? / 1_000_000;
        }
        rest = after;
    }
    Some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(expr: Result<Expr, SqlError>) -> String {
        match expr {
            Ok(expr) => format!("{expr} {}", expr.data_type),
            Err(error) => error.kind().name().to_owned(),
        }
    }

    #[test]
    fn numbers_take_the_smallest_type() {
        assert_eq!(shown(number("1", false)), "1 INT NOT NULL");
        assert_eq!(shown(number("2147483648", false)), "2147483648 BIGINT NOT NULL");
        assert_eq!(shown(number("9223372036854775808", true)), "-9223372036854775808 BIGINT NOT NULL");
        assert_eq!(shown(number("9223372036854775808", false)), "VALIDATION");
        assert_eq!(shown(number("1.50", false)), "150:DECIMAL(3, 2) DECIMAL(3, 2) NOT NULL");
        assert_eq!(shown(number(".5", true)), "-5:DECIMAL(1, 1) DECIMAL(1, 1) NOT NULL");
        assert_eq!(shown(number("1e0", false)), "1.0 DOUBLE NOT NULL");
        assert_eq!(shown(number("1e400", false)), "VALIDATION");
        assert_eq!(shown(number("1234567890.0123456789", false)), "VALIDATION");
    }

    #[test]
    fn temporal_literals() {
        assert_eq!(shown(date_literal("2024-2-29")), "19782:DATE DATE NOT NULL");
        for bad in ["2023-02-29", "1582-10-10", "", "abc", "2024"] {
            assert_eq!(shown(date_literal(bad)), "VALIDATION", "{bad}");
        }
        assert_eq!(shown(time_literal("1:2:3.5")), "3723500:TIME(1) TIME(1) NOT NULL");
        assert_eq!(shown(time_literal("24:00:00")), "VALIDATION");
        assert_eq!(shown(timestamp_literal("1970-01-01 00:00:01.123")), "1123:TIMESTAMP(3) TIMESTAMP(3) NOT NULL");
        assert_eq!(shown(timestamp_literal("1970-01-02")), "86400000:TIMESTAMP(0) TIMESTAMP(0) NOT NULL");
        assert_eq!(shown(timestamp_literal("2024-02-29 12:34")), "VALIDATION");
    }

    #[test]
    fn strings_and_bytes() {
        assert_eq!(shown(Ok(string("abc"))), "'abc' CHAR(3) NOT NULL");
        assert_eq!(shown(Ok(string("😀"))), "'😀' CHAR(2) NOT NULL");
        assert_eq!(shown(hex("0fA0")), "x'0fa0' BINARY(2) NOT NULL");
        assert_eq!(shown(hex("4")), "VALIDATION");
    }

    #[test]
    fn day_time_intervals() {
        assert_eq!(day_time("1 02:03:04.5", "DAY", Some("SECOND"), 2), Some(93_784_500));
        assert_eq!(day_time("2:3", "HOUR", Some("MINUTE"), 2), Some(7_380_000));
        assert_eq!(day_time("61", "SECOND", None, 2), Some(61_000));
        assert_eq!(day_time("100", "DAY", None, 2), None);
        assert_eq!(day_time("100", "DAY", None, 3), Some(8_640_000_000));
    }
}
