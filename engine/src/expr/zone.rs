//! Calendar and time-zone arithmetic on plain integers: days since 1970-01-01, milliseconds of the
//! day, milliseconds since 1970.
//!
//! The proleptic Gregorian calendar throughout, as in Java's `LocalDate`.

use chrono::{Offset, TimeZone};
use chrono_tz::Tz;

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// A time zone: a fixed offset or a named one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Zone {
    /// Seconds east of UTC.
    Fixed(i32),
    /// A zone of the tz database.
    Named(Tz),
}

impl Default for Zone {
    fn default() -> Self {
        Zone::UTC
    }
}

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone::Fixed(0);

    /// Reads `UTC`, `Europe/Berlin`, `GMT+8`, `GMT-03:30`, `+08:00`; `None` if there is no such zone.
    pub fn parse(text: &str) -> Option<Zone> {
        let text = text.trim();
        if ["UTC", "GMT", "Z", "UT"].contains(&text) {
            return Some(Zone::UTC);
        }
        let offset = ["GMT", "UTC", "UT"].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
        if offset.starts_with(['+', '-']) {
            return parse_offset(offset).map(Zone::Fixed);
        }
        text.parse::<Tz>().ok().map(|tz| if tz == Tz::UTC { Zone::UTC } else { Zone::Named(tz) })
    }

    /// As Java's `TimeZone`: also the old three-letter ids.
    pub fn parse_java(text: &str) -> Option<Zone> {
        const OLD: [(&str, Tz); 14] = [
            ("PST", Tz::America__Los_Angeles),
            ("CST", Tz::America__Chicago),
            ("CTT", Tz::Asia__Shanghai),
            ("JST", Tz::Asia__Tokyo),
            ("IST", Tz::Asia__Kolkata),
            ("AET", Tz::Australia__Sydney),
            ("ACT", Tz::Australia__Darwin),
            ("ART", Tz::Africa__Cairo),
            ("BST", Tz::Asia__Dhaka),
            ("ECT", Tz::Europe__Paris),
            ("IET", Tz::America__Indiana__Indianapolis),
            ("NST", Tz::Pacific__Auckland),
            ("PNT", Tz::America__Phoenix),
            ("VST", Tz::Asia__Ho_Chi_Minh),
        ];
        OLD.iter().find(|(id, _)| *id == text).map(|(_, tz)| Zone::Named(*tz)).or_else(|| Zone::parse(text))
    }

    /// The offset in ms that holds at an instant.
    pub fn offset_at(&self, utc_ms: i64) -> i64 {
        match self {
            Zone::Fixed(seconds) => i64::from(*seconds) * 1000,
            Zone::Named(tz) => match chrono::DateTime::from_timestamp(utc_ms.div_euclid(1000), 0) {
                Some(at) => i64::from(tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()) * 1000,
                None => 0,
            },
        }
    }

    /// An instant as local time, both in ms.
    #[inline]
    pub fn to_local(&self, utc_ms: i64) -> i64 {
        match self {
            Zone::Fixed(0) => utc_ms,
            _ => utc_ms.wrapping_add(self.offset_at(utc_ms)),
        }
    }

    /// As [`Self::to_utc`], but the later instant in an overlap, as `SimpleDateFormat` reads.
    pub fn to_utc_late(&self, local_ms: i64) -> i64 {
        let after = self.offset_at(local_ms.saturating_add(DAY_MS));
        let late = local_ms.wrapping_sub(after);
        if self.offset_at(late) == after { late } else { self.to_utc(local_ms) }
    }

    /// Local time as an instant, both in ms. In an overlap the earlier instant; a time in a gap
    /// moves forward by the length of the gap.
    pub fn to_utc(&self, local_ms: i64) -> i64 {
        match self {
            Zone::Fixed(seconds) => local_ms.wrapping_sub(i64::from(*seconds) * 1000),
            Zone::Named(_) => {
                // The offsets on both sides of any transition near the local time.
                let before = self.offset_at(local_ms.saturating_sub(DAY_MS));
                let after = self.offset_at(local_ms.saturating_add(DAY_MS));
                let by_before = local_ms.wrapping_sub(before);
                if self.offset_at(by_before) == before {
                    return by_before;
                }
                let by_after = local_ms.wrapping_sub(after);
                if self.offset_at(by_after) == after { by_after } else { by_before }
            }
        }
    }
}

/// `+8`, `+08`, `+08:30`, `+0830` in seconds.
fn parse_offset(text: &str) -> Option<i32> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = &text[1..];
    let (hours, minutes) = match digits.split_once(':') {
        Some((h, m)) => (h, m),
        None if digits.len() == 4 => digits.split_at(2),
        None => (digits, "0"),
    };
    let ok = |s: &str| !s.is_empty() && s.len() <= 2 && s.bytes().all(|b| b.is_ascii_digit());
    if !ok(hours) || !ok(minutes) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Year, month and day of a day number.
pub fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let month = (if mp < 10 { mp + 3 } else { mp - 9 }) as u32;
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// The day number of a date; the day may exceed the month.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let yoe = year.rem_euclid(400);
    let month = i64::from(month);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + i64::from(day) - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// Whether the year has a February 29.
pub fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days of a month.
pub fn month_length(year: i64, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The day number `months` later, clamped to the end of the month.
pub fn add_months(days: i64, months: i64) -> i64 {
    let (year, month, day) = civil(days);
    let total = year * 12 + i64::from(month) - 1 + months;
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) as u32 + 1);
    days_from_civil(year, month, day.min(month_length(year, month)))
}

/// 1 (Monday) to 7 (Sunday).
pub fn iso_weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// Day of the year, from 1.
pub fn day_of_year(days: i64) -> i64 {
    let (year, ..) = civil(days);
    days - days_from_civil(year, 1, 1) + 1
}

/// ISO week-based year and week.
pub fn iso_week(days: i64) -> (i64, i64) {
    let thursday = days - iso_weekday(days) + 4;
    let (year, ..) = civil(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_round_trips() {
        for days in [-719_528, -1, 0, 59, 60, 11_016, 19_782, 2_932_896] {
            let (y, m, d) = civil(days);
            assert_eq!(days_from_civil(y, m, d), days);
        }
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(iso_week(days_from_civil(2021, 1, 1)), (2020, 53));
        assert_eq!(add_months(days_from_civil(2024, 1, 31), 1), days_from_civil(2024, 2, 29));
    }

    #[test]
    fn local_times_in_gaps_and_overlaps() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let at = |d: i64, h: i64, m: i64| d * DAY_MS + (h * 60 + m) * 60_000;
        let spring = days_from_civil(2024, 3, 31);
        // 02:30 does not exist: 03:30 summer time.
        assert_eq!(berlin.to_utc(at(spring, 2, 30)), at(spring, 1, 30));
        let autumn = days_from_civil(2024, 10, 27);
        // 02:30 exists twice: the first, in summer time.
        assert_eq!(berlin.to_utc(at(autumn, 2, 30)), at(autumn, 0, 30));
        assert_eq!(Zone::parse("GMT-03:30"), Some(Zone::Fixed(-12_600)));
        assert_eq!(Zone::parse("Nowhere/City"), None);
    }
}
