//! Values as text: what `CAST(x AS STRING)` gives.
//!
//! FLOAT and DOUBLE print as Java prints them, DECIMAL plain with its full scale, timestamps with
//! exactly as many fraction digits as their precision.

use std::fmt::Write;

use super::zone::{DAY_MS, civil};

/// A moment: milliseconds since 1970 and the nanoseconds within that millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Milliseconds since 1970-01-01 00:00, floored.
    pub millis: i64,
    /// 0 to 999,999.
    pub nanos: i32,
}

impl Moment {
    /// From the stored integer of a timestamp of `precision`.
    #[inline]
    pub fn from_stored(value: i64, precision: u8) -> Moment {
        match precision {
            0..=3 => Moment { millis: value, nanos: 0 },
            4..=6 => Moment { millis: value.div_euclid(1000), nanos: value.rem_euclid(1000) as i32 * 1000 },
            _ => Moment { millis: value.div_euclid(1_000_000), nanos: value.rem_euclid(1_000_000) as i32 },
        }
    }

    /// The stored integer of a timestamp of `precision`; finer digits are cut. `None` when the
    /// moment is out of the range of the unit.
    #[inline]
    pub fn to_stored(self, precision: u8) -> Option<i64> {
        match precision {
            0..=3 => {
                let step = 10_i64.pow(3 - u32::from(precision));
                Some(self.millis - self.millis % step)
            }
            4..=6 => {
                let step = 10_i64.pow(6 - u32::from(precision));
                let micros = i64::from(self.nanos) / 1000;
                self.millis.checked_mul(1000)?.checked_add(micros - micros % step)
            }
            _ => {
                let step = 10_i64.pow(9 - u32::from(precision.min(9)));
                let nanos = i64::from(self.nanos);
                self.millis.checked_mul(1_000_000)?.checked_add(nanos - nanos % step)
            }
        }
    }

    /// The fraction of the second in nanoseconds.
    pub fn nano_of_second(self) -> i64 {
        self.millis.rem_euclid(1000) * 1_000_000 + i64::from(self.nanos)
    }
}

/// `yyyy-MM-dd`.
pub fn date(days: i64) -> String {
    let mut out = String::with_capacity(10);
    write_date(&mut out, days);
    out
}

fn write_date(out: &mut String, days: i64) {
    let (year, month, day) = civil(days);
    let sign = if year < 0 { "-" } else { "" };
    // Writing to a String cannot fail.
    let _ = write!(out, "{sign}{:04}-{month:02}-{day:02}", year.abs());
}

/// `HH:mm:ss[.f]` with `precision` fraction digits.
pub fn time(millis: i64, precision: u8) -> String {
    let mut out = String::with_capacity(12);
    write_time(&mut out, millis, 0, precision);
    out
}

fn write_time(out: &mut String, millis: i64, nanos: i32, precision: u8) {
    let second = millis.div_euclid(1000);
    let _ = write!(out, "{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    if precision > 0 {
        let fraction = millis.rem_euclid(1000) * 1_000_000 + i64::from(nanos);
        let digits = format!("{fraction:09}");
        let _ = write!(out, ".{}", &digits[..usize::from(precision.min(9))]);
    }
}

/// `yyyy-MM-dd HH:mm:ss[.f]` with `precision` fraction digits.
pub fn timestamp(moment: Moment, precision: u8) -> String {
    let mut out = String::with_capacity(29);
    write_date(&mut out, moment.millis.div_euclid(DAY_MS));
    out.push(' ');
    write_time(&mut out, moment.millis.rem_euclid(DAY_MS), moment.nanos, precision);
    out
}

/// `+1 02:03:04.000`.
pub fn interval_day_time(millis: i64) -> String {
    let sign = if millis < 0 { '-' } else { '+' };
    let total = millis.unsigned_abs();
    let (days, rest) = (total / DAY_MS as u64, total % DAY_MS as u64);
    let seconds = rest / 1000;
    format!("{sign}{days} {:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, rest % 1000)
}

/// `+1-02`.
pub fn interval_year_month(months: i64) -> String {
    let sign = if months < 0 { '-' } else { '+' };
    let total = months.unsigned_abs();
    format!("{sign}{}-{:02}", total / 12, total % 12)
}

/// The unscaled value with `scale` digits after the point.
pub fn decimal(unscaled: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// As Java prints a `double`: `1.5`, `1.0E20`, `1.0E-4`, `NaN`, `-Infinity`.
pub fn double(value: f64) -> String {
    if value.is_nan() || value.is_infinite() || value == 0.0 {
        return special(value);
    }
    if value.abs() == 5e-324 {
        // Java prints two digits at least, of the exact value.
        return if value < 0.0 { "-4.9E-324" } else { "4.9E-324" }.to_owned();
    }
    java_notation(&format!("{value:e}"))
}

/// As Flink prints a FLOAT: seven digits at most.
pub fn float(value: f32) -> String {
    if value.is_nan() || value.is_infinite() || value == 0.0 {
        return special(f64::from(value));
    }
    let shortest = format!("{value:e}");
    let digits = shortest.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count();
    if digits <= 7 {
        return java_notation(&shortest);
    }
    let rounded = format!("{value:.6e}");
    let (mantissa, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    java_notation(&format!("{}e{exponent}", mantissa.trim_end_matches('0')))
}

fn special(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value == 0.0 {
        if value.is_sign_negative() { "-0.0" } else { "0.0" }.to_owned()
    } else if value > 0.0 {
        "Infinity".to_owned()
    } else {
        "-Infinity".to_owned()
    }
}

/// From the shortest digits as `d.ddde±x`.
fn java_notation(scientific: &str) -> String {
    let (sign, rest) = match scientific.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", scientific),
    };
    let (mantissa, exponent) = rest.split_once('e').unwrap_or((rest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    if (-3..7).contains(&exponent) {
        if exponent < 0 {
            return format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize));
        }
        let point = exponent as usize + 1;
        let padded = format!("{digits:0<point$}");
        let (whole, fraction) = padded.split_at(point);
        return format!("{sign}{whole}.{}", if fraction.is_empty() { "0" } else { fraction });
    }
    let (first, others) = digits.split_at(1);
    format!("{sign}{first}.{}E{exponent}", if others.is_empty() { "0" } else { others })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_java_prints_them() {
        for (value, text) in [
            (1.5, "1.5"),
            (1e20, "1.0E20"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (1e-3, "0.001"),
            (1e-4, "1.0E-4"),
            (123.25, "123.25"),
            (-0.0, "-0.0"),
            (100.0, "100.0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(value), text);
        }
        assert_eq!(float(3.4e38), "3.4E38");
        assert_eq!(float(0.1), "0.1");
        assert_eq!(float(16_777_216.0), "1.677722E7");
    }

    #[test]
    fn temporals_and_decimals() {
        assert_eq!(decimal(-5, 2), "-0.05");
        assert_eq!(decimal(1100, 3), "1.100");
        assert_eq!(decimal(7, 0), "7");
        assert_eq!(timestamp(Moment { millis: -1, nanos: 0 }, 3), "1969-12-31 23:59:59.999");
        assert_eq!(timestamp(Moment::from_stored(1_500_000, 6), 6), "1970-01-01 00:00:01.500000");
        assert_eq!(interval_day_time(-5 * 3_600_000), "-0 05:00:00.000");
        assert_eq!(interval_year_month(-14), "-1-02");
        assert_eq!(Moment { millis: -1, nanos: 0 }.to_stored(0), Some(0));
    }
}
