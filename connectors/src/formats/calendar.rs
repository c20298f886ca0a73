//! Dates and times as text, by the proleptic Gregorian calendar.
//!
//! Reading is strict: fields have their full number of digits. Impossible dates are refused.

use arrow::datatypes::TimeUnit;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Days since 1970-01-01 of a date, `None` if there is no such date.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> Option<i32> {
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last day of the year.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * (i64::from(month) + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

/// Year, month and day of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * mp + 2) / 5 + 1) as u32;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn digits(text: &[u8]) -> Option<u32> {
    let mut value = 0;
    for &b in text {
        if !b.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u32::from(b - b'0');
    }
    Some(value)
}

/// Reads `yyyy-MM-dd` as days since 1970.
pub fn parse_date(text: &[u8]) -> Option<i32> {
    let (sign, text) = match text.first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    let year_digits = text.len().checked_sub(6)?;
    if !(4..=9).contains(&year_digits) || text[year_digits] != b'-' || text[year_digits + 3] != b'-' {
        return None;
    }
    let year = i64::from(digits(&text[..year_digits])?) * sign;
    days_from_civil(year, digits(&text[year_digits + 1..year_digits + 3])?, digits(&text[year_digits + 4..])?)
}

/// Reads `HH:mm:ss[.fffffffff]` as nanoseconds of the day. `HH:mm` too when `seconds_optional`.
pub fn parse_time_nanos(text: &[u8], seconds_optional: bool) -> Option<i64> {
    if text.len() < 5 || text[2] != b':' {
        return None;
    }
    let (hour, minute) = (digits(&text[..2])?, digits(&text[3..5])?);
    let (mut second, mut nanos) = (0, 0);
    if text.len() == 5 {
        if !seconds_optional {
            return None;
        }
    } else {
        if text.len() < 8 || text[5] != b':' {
            return None;
        }
        second = digits(&text[6..8])?;
        if text.len() > 8 {
            let fraction = &text[9..];
            if text[8] != b'.' || fraction.is_empty() || fraction.len() > 9 {
                return None;
            }
            nanos = digits(fraction)? * 10_u32.pow(9 - fraction.len() as u32);
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(i64::from(hour * 3600 + minute * 60 + second) * 1_000_000_000 + i64::from(nanos))
}

/// How timestamps are written in a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampStyle {
    /// `yyyy-MM-dd HH:mm:ss[.f]`
    Sql,
    /// `yyyy-MM-ddTHH:mm:ss[.f]`
    Iso8601,
}

/// Reads a timestamp in `unit` since 1970. With `zulu` the text must end in `Z`.
pub fn parse_timestamp(text: &[u8], style: TimestampStyle, zulu: bool, unit: &TimeUnit) -> Option<i64> {
    let text = if zulu { text.strip_suffix(b"Z")? } else { text };
    let separator = if style == TimestampStyle::Sql { b' ' } else { b'T' };
    // A sign or a fifth digit of the year moves the separator.
    let at = if text.get(10) == Some(&separator) { 10 } else { text.iter().position(|&b| b == separator)? };
    let days = i64::from(parse_date(&text[..at])?);
    let nanos = parse_time_nanos(&text[at + 1..], style == TimestampStyle::Iso8601)?;
    match unit {
        TimeUnit::Second => Some(days * 86_400 + nanos / 1_000_000_000),
        TimeUnit::Millisecond => Some(days * DAY_MS + nanos / 1_000_000),
        TimeUnit::Microsecond => (days * DAY_MS).checked_mul(1000)?.checked_add(nanos / 1000),
        TimeUnit::Nanosecond => (days * DAY_MS).checked_mul(1_000_000)?.checked_add(nanos),
    }
}

fn push_padded(out: &mut Vec<u8>, value: u32, width: usize) {
    let mut buffer = [b'0'; 10];
    let mut rest = value;
    let mut at = buffer.len();
    while rest > 0 || at > buffer.len() - width {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&buffer[at..]);
}

/// Appends `yyyy-MM-dd`.
pub fn write_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil_from_days(days);
    if year < 0 {
        out.push(b'-');
    } else if year > 9999 {
        out.push(b'+');
    }
    push_padded(out, year.unsigned_abs() as u32, 4);
    out.push(b'-');
    push_padded(out, month, 2);
    out.push(b'-');
    push_padded(out, day, 2);
}

/// Appends `HH:mm:ss`, then the fraction without trailing zeros if it is not zero.
pub fn write_time(out: &mut Vec<u8>, nanos_of_day: i64) {
    let seconds = (nanos_of_day / 1_000_000_000) as u32;
    push_padded(out, seconds / 3600, 2);
    out.push(b':');
    push_padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_padded(out, seconds % 60, 2);
    write_fraction(out, (nanos_of_day % 1_000_000_000) as u32);
}

fn write_fraction(out: &mut Vec<u8>, nanos: u32) {
    if nanos == 0 {
        return;
    }
    out.push(b'.');
    push_padded(out, nanos, 9);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

/// Days since 1970 and nanoseconds of the day of a timestamp in `unit`.
pub fn split_timestamp(value: i64, unit: &TimeUnit) -> (i64, i64) {
    let (per_day, nanos) = match unit {
        TimeUnit::Second => (86_400, 1_000_000_000),
        TimeUnit::Millisecond => (DAY_MS, 1_000_000),
        TimeUnit::Microsecond => (DAY_MS * 1000, 1000),
        TimeUnit::Nanosecond => (DAY_MS * 1_000_000, 1),
    };
    (value.div_euclid(per_day), value.rem_euclid(per_day) * nanos)
}

/// Appends date, `separator`, time of a timestamp in `unit`.
pub fn write_timestamp(out: &mut Vec<u8>, value: i64, unit: &TimeUnit, separator: u8) {
    let (days, nanos) = split_timestamp(value, unit);
    write_date(out, days);
    out.push(separator);
    write_time(out, nanos);
}

/// Appends a time as Java's LocalTime prints it: seconds only if they or the fraction are not zero,
/// the fraction in groups of three digits.
pub fn write_java_time(out: &mut Vec<u8>, nanos_of_day: i64) {
    let seconds = (nanos_of_day / 1_000_000_000) as u32;
    let nanos = (nanos_of_day % 1_000_000_000) as u32;
    push_padded(out, seconds / 3600, 2);
    out.push(b':');
    push_padded(out, seconds / 60 % 60, 2);
    if seconds.is_multiple_of(60) && nanos == 0 {
        return;
    }
    out.push(b':');
    push_padded(out, seconds % 60, 2);
    if nanos == 0 {
        return;
    }
    out.push(b'.');
    if nanos.is_multiple_of(1_000_000) {
        push_padded(out, nanos / 1_000_000, 3);
    } else if nanos.is_multiple_of(1000) {
        push_padded(out, nanos / 1000, 6);
    } else {
        push_padded(out, nanos, 9);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_round_trip_over_all_days_of_many_years() {
        for days in (-800_000..3_000_000).step_by(97) {
            let t = text(|o| write_date(o, i64::from(days)));
            assert_eq!(parse_date(t.as_bytes()), Some(days), "{t}");
        }
        assert_eq!(parse_date(b"1970-01-01"), Some(0));
        assert_eq!(parse_date(b"2024-02-29"), Some(19_782));
        assert_eq!(parse_date(b"0001-01-01"), Some(-719_162));
    }

    #[test]
    fn what_is_no_date_or_time_is_refused() {
        for t in ["", "2024-02-30", "2023-02-29", "2024-13-01", "2024-1-1", "24-01-01", "2024/01/01", "2024-01-01 "] {
            assert_eq!(parse_date(t.as_bytes()), None, "{t}");
        }
        for t in ["", "24:00:00", "1:00:00", "10:00", "10:00:60", "10:00:00.", "10:00:00.1234567890", "10:00:00x"] {
            assert_eq!(parse_time_nanos(t.as_bytes(), false), None, "{t}");
        }
    }

    #[test]
    fn timestamps_before_1970_floor() {
        let ms = |t: &str| parse_timestamp(t.as_bytes(), TimestampStyle::Sql, false, &TimeUnit::Millisecond);
        assert_eq!(ms("1969-12-31 23:59:59.999"), Some(-1));
        assert_eq!(ms("1969-12-31 23:59:59.999999"), Some(-1));
        assert_eq!(ms("1970-01-01T00:00:00"), None);
        assert_eq!(text(|o| write_timestamp(o, -1, &TimeUnit::Millisecond, b' ')), "1969-12-31 23:59:59.999");
        assert_eq!(text(|o| write_timestamp(o, -1, &TimeUnit::Nanosecond, b'T')), "1969-12-31T23:59:59.999999999");
        let zulu = parse_timestamp(b"2024-01-01T00:00:01.5Z", TimestampStyle::Iso8601, true, &TimeUnit::Millisecond);
        assert_eq!(zulu, Some(1_704_067_201_500));
        assert_eq!(parse_timestamp(b"2024-01-01 00:00:01", TimestampStyle::Sql, true, &TimeUnit::Millisecond), None);
    }

    #[test]
    fn java_times_leave_out_what_is_zero() {
        let t = |n| text(|o| write_java_time(o, n));
        assert_eq!(t(0), "00:00");
        assert_eq!(t(1_000_000_000), "00:00:01");
        assert_eq!(t(1_500_000_000), "00:00:01.500");
        assert_eq!(t(1_000_001_000), "00:00:01.000001");
    }
}
