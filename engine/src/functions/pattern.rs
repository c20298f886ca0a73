//! Date and time patterns as `yyyy-MM-dd HH:mm:ss`.
//!
//! Java has two sets of rules and Flink uses both: the *modern* one of `DateTimeFormatter`
//! (DATE_FORMAT, TO_TIMESTAMP) and the *legacy* one of `SimpleDateFormat` (FROM_UNIXTIME,
//! UNIX_TIMESTAMP, TO_DATE, CONVERT_TZ), which reads leniently: fields may overflow and text may
//! follow. Weeks are those of the US locale: they start on Sunday, and January 1 is in week 1.

use std::fmt::Write;

use crate::error::{EngineError, Result};
use crate::expr::format::Moment;
use crate::expr::zone::{DAY_MS, Zone, civil, day_of_year, days_from_civil, is_leap, iso_weekday, month_length};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Which of Java's rules a pattern follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `DateTimeFormatter`.
    Modern,
    /// `SimpleDateFormat`.
    Legacy,
}

#[derive(Debug, Clone, PartialEq)]
enum Item {
    Field(char, usize),
    Text(String),
}

/// A pattern that has been read.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    items: Vec<Item>,
    style: Style,
}

fn bad(pattern: &str, reason: &str) -> EngineError {
    EngineError::Runtime(format!("cannot use the date pattern '{pattern}': {reason}"))
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Runtime: a letter that means nothing, or an open quote.
    pub fn parse(pattern: &str, style: Style) -> Result<Pattern> {
        let letters = match style {
            Style::Modern => "GuyDMLdQqYwWEecFaBhKkHmsSAnNVvzOXxZ",
            Style::Legacy => "GyYMLwWDdFEuaHkKhmsSzZX",
        };
        let mut items: Vec<Item> = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\'' {
                text(&mut items, &quoted(&mut chars).ok_or_else(|| bad(pattern, "a quote is not closed"))?);
            } else if c.is_ascii_alphabetic() {
                if !letters.contains(c) {
                    return Err(bad(pattern, &format!("the letter {c} means nothing")));
                }
                let mut count = 1;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                items.push(Item::Field(c, count));
            } else if style == Style::Modern && matches!(c, '[' | ']') {
                // Optional sections are written always, and read as if they were there.
            } else if style == Style::Modern && matches!(c, '{' | '}' | '#') {
                return Err(bad(pattern, &format!("the character {c} is reserved")));
            } else {
                text(&mut items, &c.to_string());
            }
        }
        Ok(Pattern { items, style })
    }

    /// Moments within the same multiple of so many milliseconds are written alike; `None`: each may be
    /// written in another way.
    pub fn unit_ms(&self) -> Option<i64> {
        let unit = |item: &Item| match item {
            Item::Text(_) => Some(DAY_MS),
            Item::Field(letter, _) => match letter {
                'G' | 'u' | 'y' | 'D' | 'M' | 'L' | 'd' | 'Q' | 'q' | 'Y' | 'w' | 'W' | 'E' | 'e' | 'c' | 'F' => {
                    Some(DAY_MS)
                }
                'a' | 'B' | 'h' | 'K' | 'k' | 'H' => Some(3_600_000),
                'm' => Some(60_000),
                's' => Some(1_000),
                _ => None,
            },
        };
        self.items.iter().try_fold(DAY_MS, |least, item| Some(least.min(unit(item)?)))
    }

    /// A pattern that matches no text.
    pub fn nothing() -> Pattern {
        Pattern { items: Vec::new(), style: Style::Modern }
    }

    /// Writes a local time. `zone` and the instant are for zone letters; without a zone they fail.
    ///
    /// # Errors
    /// Runtime: a zone letter without a zone.
    pub fn format(&self, local: Moment, zone: Option<Zone>) -> Result<String> {
        let mut out = String::with_capacity(32);
        let parts = Parts::of(local);
        for item in &self.items {
            match item {
                Item::Text(text) => out.push_str(text),
                Item::Field(letter, count) => match self.style {
                    Style::Modern => modern(&mut out, &parts, *letter, *count, zone)?,
                    Style::Legacy => legacy(&mut out, &parts, *letter, *count, zone)?,
                },
            }
        }
        Ok(out)
    }

    /// Reads text; `None` when it does not match. The zone is that named in the text, if any.
    pub fn read(&self, text: &str) -> Option<(Moment, Option<i64>)> {
        let mut fields = Fields::default();
        let mut rest = text;
        for (at, item) in self.items.iter().enumerate() {
            rest = match item {
                Item::Text(expected) => rest.strip_prefix(expected.as_str())?,
                Item::Field(letter, count) => {
                    let adjacent =
                        matches!(self.items.get(at + 1), Some(Item::Field(next, width)) if is_number(*next, *width));
                    if self.style == Style::Legacy {
                        rest = rest.trim_start_matches([' ', '\t']);
                    }
                    fields.read(rest, *letter, *count, adjacent, self.style)?
                }
            };
        }
        if self.items.is_empty() || (!rest.is_empty() && self.style == Style::Modern) {
            return None;
        }
        let moment = match self.style {
            Style::Modern => fields.resolve()?,
            Style::Legacy => fields.resolve_leniently(),
        };
        Some((moment, fields.offset))
    }
}

fn text(items: &mut Vec<Item>, part: &str) {
    match items.last_mut() {
        Some(Item::Text(text)) => text.push_str(part),
        _ => items.push(Item::Text(part.to_owned())),
    }
}

/// The text up to the closing quote; two quotes are one.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    if chars.next_if_eq(&'\'').is_some() {
        return Some("'".to_owned());
    }
    let mut out = String::new();
    loop {
        match chars.next()? {
            '\'' if chars.next_if_eq(&'\'').is_some() => out.push('\''),
            '\'' => return Some(out),
            c => out.push(c),
        }
    }
}

fn is_number(letter: char, count: usize) -> bool {
    match letter {
        'M' | 'L' | 'Q' | 'q' | 'e' | 'c' => count <= 2,
        'E' | 'a' | 'G' | 'z' | 'Z' | 'X' | 'x' | 'V' | 'v' | 'O' => false,
        _ => true,
    }
}

/// The calendar fields of a local time.
struct Parts {
    days: i64,
    year: i64,
    month: u32,
    day: u32,
    milli_of_day: i64,
    local: Moment,
}

impl Parts {
    fn of(local: Moment) -> Parts {
        let days = local.millis.div_euclid(DAY_MS);
        let (year, month, day) = civil(days);
        Parts { days, year, month, day, milli_of_day: local.millis.rem_euclid(DAY_MS), local }
    }

    fn hour(&self) -> i64 {
        self.milli_of_day / 3_600_000
    }

    /// Sunday 1 to Saturday 7.
    fn us_weekday(&self) -> i64 {
        iso_weekday(self.days) % 7 + 1
    }

    /// Week-based year and week, Sunday first, January 1 in week 1.
    fn us_week(&self) -> (i64, i64) {
        let first_sunday = |year| {
            let first = days_from_civil(year, 1, 1);
            first - iso_weekday(first) % 7
        };
        if self.days >= first_sunday(self.year + 1) {
            return (self.year + 1, 1);
        }
        (self.year, (self.days - first_sunday(self.year)) / 7 + 1)
    }

    fn us_week_of_month(&self) -> i64 {
        let first = self.days - i64::from(self.day) + 1;
        (self.days - (first - iso_weekday(first) % 7)) / 7 + 1
    }
}

fn pad(out: &mut String, value: i64, width: usize) {
    // Writing to a String cannot fail.
    let _ = if value < 0 { write!(out, "-{:0width$}", -value) } else { write!(out, "{value:0width$}") };
}

fn year(out: &mut String, value: i64, count: usize) {
    if count == 2 {
        pad(out, value.rem_euclid(100), 2);
    } else {
        if count >= 4 && value >= 10_i64.pow(count as u32) {
            out.push('+');
        }
        pad(out, value, count);
    }
}

fn name(out: &mut String, full: &str, count: usize) {
    match count {
        0..=4 => out.push_str(&full[..3]),
        _ => out.push_str(&full[..1]),
    }
}

/// Letters that both styles write alike; `false` for others.
fn common(out: &mut String, parts: &Parts, letter: char, count: usize) -> bool {
    match letter {
        'M' | 'L' if count <= 2 => pad(out, parts.month.into(), count),
        'M' | 'L' => name(out, MONTHS[parts.month as usize - 1], count),
        'd' => pad(out, parts.day.into(), count),
        'D' => pad(out, day_of_year(parts.days), count),
        'H' => pad(out, parts.hour(), count),
        'k' => pad(out, if parts.hour() == 0 { 24 } else { parts.hour() }, count),
        'K' => pad(out, parts.hour() % 12, count),
        'h' => pad(out, (parts.hour() + 11) % 12 + 1, count),
        'm' => pad(out, parts.milli_of_day / 60_000 % 60, count),
        's' => pad(out, parts.milli_of_day / 1000 % 60, count),
        'a' => out.push_str(if parts.hour() < 12 { "AM" } else { "PM" }),
        'E' => name(out, DAYS[iso_weekday(parts.days) as usize - 1], count),
        'w' => pad(out, parts.us_week().1, count),
        'W' => pad(out, parts.us_week_of_month(), count),
        'G' => out.push_str(if parts.year > 0 { "AD" } else { "BC" }),
        _ => return false,
    }
    true
}

fn modern(out: &mut String, parts: &Parts, letter: char, count: usize, zone: Option<Zone>) -> Result<()> {
    if common(out, parts, letter, count) {
        return Ok(());
    }
    let quarter = i64::from(parts.month - 1) / 3 + 1;
    match letter {
        'y' => year(out, if parts.year > 0 { parts.year } else { 1 - parts.year }, count),
        'u' => year(out, parts.year, count),
        'Y' => year(out, parts.us_week().0, count),
        'Q' | 'q' => match count {
            1 | 2 => pad(out, quarter, count),
            3 => {
                let _ = write!(out, "Q{quarter}");
            }
            4 => out.push_str(["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"][quarter as usize - 1]),
            _ => pad(out, quarter, 1),
        },
        'e' | 'c' if count <= 2 => pad(out, parts.us_weekday(), count),
        'e' | 'c' => name(out, DAYS[iso_weekday(parts.days) as usize - 1], count),
        'S' => {
            let digits = format!("{:09}", parts.local.nano_of_second());
            out.push_str(&digits[..count.min(9)]);
        }
        'F' => pad(out, (i64::from(parts.day) - 1) % 7 + 1, count),
        'B' => out.push_str(if parts.hour() < 12 { "AM" } else { "PM" }),
        'A' => pad(out, parts.milli_of_day, count),
        'n' => pad(out, parts.local.nano_of_second(), count),
        'N' => pad(out, parts.milli_of_day * 1_000_000 + i64::from(parts.local.nanos), count),
        _ => zone_text(out, parts, letter, count, zone)?,
    }
    Ok(())
}

fn legacy(out: &mut String, parts: &Parts, letter: char, count: usize, zone: Option<Zone>) -> Result<()> {
    if common(out, parts, letter, count) {
        return Ok(());
    }
    match letter {
        'y' if count == 2 => pad(out, parts.year.rem_euclid(100), 2),
        'y' => pad(out, parts.year, count),
        'Y' if count == 2 => pad(out, parts.us_week().0.rem_euclid(100), 2),
        'Y' => pad(out, parts.us_week().0, count),
        'u' => pad(out, iso_weekday(parts.days), count),
        'F' => pad(out, (i64::from(parts.day) - 1) / 7 + 1, count),
        'S' => pad(out, parts.local.millis.rem_euclid(1000), count),
        _ => zone_text(out, parts, letter, count, zone)?,
    }
    Ok(())
}

fn zone_text(out: &mut String, parts: &Parts, letter: char, count: usize, zone: Option<Zone>) -> Result<()> {
    let Some(zone) = zone else {
        return Err(EngineError::Runtime(format!(
            "the pattern letter {letter} needs a time zone, which a TIMESTAMP has not"
        )));
    };
    let seconds = zone.offset_at(zone.to_utc(parts.local.millis)) / 1000;
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    let _ = match letter {
        'X' if seconds == 0 => write!(out, "Z"),
        'X' | 'x' if count == 1 && minutes == 0 => write!(out, "{sign}{hours:02}"),
        'X' | 'x' if count == 3 || count == 5 => write!(out, "{sign}{hours:02}:{minutes:02}"),
        'X' | 'x' => write!(out, "{sign}{hours:02}{minutes:02}"),
        'Z' => write!(out, "{sign}{hours:02}{minutes:02}"),
        'O' if seconds == 0 => write!(out, "GMT"),
        'O' => write!(out, "GMT{sign}{hours}"),
        _ => match zone {
            Zone::Fixed(0) => write!(out, "UTC"),
            Zone::Fixed(_) => write!(out, "GMT{sign}{hours:02}:{minutes:02}"),
            Zone::Named(tz) => {
                use chrono_tz::OffsetName;
                let at = chrono::DateTime::from_timestamp(zone.to_utc(parts.local.millis).div_euclid(1000), 0);
                match at {
                    Some(at) => {
                        use chrono::TimeZone;
                        let offset = tz.offset_from_utc_datetime(&at.naive_utc());
                        write!(out, "{}", offset.abbreviation().unwrap_or(tz.name()))
                    }
                    None => write!(out, "{}", tz.name()),
                }
            }
        },
    };
    Ok(())
}

/// What has been read from text.
#[derive(Debug, Default)]
struct Fields {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    /// Hour of the half day, 0 to 11.
    half_hour: Option<i64>,
    afternoon: Option<bool>,
    minute: Option<i64>,
    second: Option<i64>,
    nanos: Option<i64>,
    /// East of UTC, in ms.
    offset: Option<i64>,
}

impl Fields {
    /// Reads one field, gives the text after it.
    fn read<'a>(&mut self, text: &'a str, letter: char, count: usize, adjacent: bool, style: Style) -> Option<&'a str> {
        match letter {
            'M' | 'L' if count >= 3 => {
                let (at, rest) = named(text, &MONTHS)?;
                self.month = Some(at as i64 + 1);
                return Some(rest);
            }
            'E' => return named(text, &DAYS).map(|(_, rest)| rest),
            'G' => return text.strip_prefix("AD"),
            'a' => {
                let head = text.get(..2)?.to_ascii_uppercase();
                self.afternoon = Some(match head.as_str() {
                    "AM" => false,
                    "PM" => true,
                    _ => return None,
                });
                return Some(&text[2..]);
            }
            'z' | 'Z' | 'X' | 'x' | 'V' | 'O' => return self.read_zone(text, letter),
            _ => {}
        }
        let most = match (style, adjacent) {
            (_, true) => count,
            (Style::Modern, _) if letter == 'y' || letter == 'u' => {
                if count == 2 {
                    2
                } else {
                    19
                }
            }
            (Style::Modern, _) if letter == 'S' => count.min(9),
            (Style::Modern, _) if count == 1 => 19,
            (Style::Modern, _) => count,
            (Style::Legacy, _) => 18,
        };
        let negative = style == Style::Legacy && text.starts_with('-') && !adjacent;
        let body = if negative { &text[1..] } else { text };
        let length = body.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if length == 0 || (style == Style::Modern && count > 1 && length < count) {
            return None;
        }
        let digits = &body[..length];
        let value: i64 = digits.parse::<i64>().ok()? * if negative { -1 } else { 1 };
        match letter {
            'y' | 'u' | 'Y' => {
                let two = count == 2 && length == 2;
                self.year = Some(match (two, style) {
                    (true, Style::Modern) => 2000 + value,
                    // Within 80 years before and 20 years after now.
                    (true, Style::Legacy) => {
                        if value > 45 {
                            1900 + value
                        } else {
                            2000 + value
                        }
                    }
                    _ => value,
                });
            }
            'M' | 'L' => self.month = Some(value),
            'd' => self.day = Some(value),
            'D' => self.day_of_year = Some(value),
            'H' => self.hour = Some(value),
            'k' => self.hour = Some(value % 24),
            'h' => self.half_hour = Some(value % 12),
            'K' => self.half_hour = Some(value),
            'm' => self.minute = Some(value),
            's' => self.second = Some(value),
            'S' => {
                self.nanos = Some(match style {
                    Style::Modern => value * 10_i64.pow(9 - length as u32),
                    Style::Legacy => value * 1_000_000,
                });
            }
            'n' => self.nanos = Some(value),
            'A' => {
                self.hour = Some(value / 3_600_000);
                self.minute = Some(value / 60_000 % 60);
                self.second = Some(value / 1000 % 60);
                self.nanos = Some(value % 1000 * 1_000_000);
            }
            _ => {}
        }
        Some(&body[length..])
    }

    fn read_zone<'a>(&mut self, text: &'a str, letter: char) -> Option<&'a str> {
        if letter == 'X'
            && let Some(rest) = text.strip_prefix('Z')
        {
            self.offset = Some(0);
            return Some(rest);
        }
        let length = text
            .char_indices()
            .find(|(at, c)| {
                !(c.is_ascii_alphanumeric() || matches!(c, '+' | ':' | '/' | '_') || (*c == '-' && *at < 4))
            })
            .map_or(text.len(), |(at, _)| at);
        let zone = Zone::parse(&text[..length])?;
        self.offset = Some(zone.offset_at(0));
        Some(&text[length..])
    }

    fn hour_of_day(&self) -> i64 {
        let from_half = self.half_hour.map(|h| h + if self.afternoon == Some(true) { 12 } else { 0 });
        self.hour.or(from_half).unwrap_or(0)
    }

    /// Every field in its range; a day that the month does not have is its last.
    fn resolve(&self) -> Option<Moment> {
        let year = self.year.unwrap_or(1970);
        let days = match (self.day_of_year, self.month) {
            (Some(day), None) => {
                let most = if is_leap(year) { 366 } else { 365 };
                (1..=most).contains(&day).then(|| days_from_civil(year, 1, 1) + day - 1)?
            }
            _ => {
                let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
                if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
                    return None;
                }
                let day = (day as u32).min(month_length(year, month as u32));
                days_from_civil(year, month as u32, day)
            }
        };
        let (hour, minute, second) = (self.hour_of_day(), self.minute.unwrap_or(0), self.second.unwrap_or(0));
        let nanos = self.nanos.unwrap_or(0);
        let end_of_day = hour == 24 && minute == 0 && second == 0 && nanos == 0;
        if (hour > 23 && !end_of_day) || minute > 59 || second > 59 || !(0..=9999).contains(&year) {
            return None;
        }
        let millis = days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + nanos / 1_000_000;
        Some(Moment { millis, nanos: (nanos % 1_000_000) as i32 })
    }

    /// Fields out of their range carry over.
    fn resolve_leniently(&self) -> Moment {
        let months = self.year.unwrap_or(1970) * 12 + self.month.unwrap_or(1) - 1;
        let first = days_from_civil(months.div_euclid(12), months.rem_euclid(12) as u32 + 1, 1);
        let days = match (self.day_of_year, self.day) {
            (Some(day), None) => days_from_civil(self.year.unwrap_or(1970), 1, 1) + day - 1,
            (_, day) => first + day.unwrap_or(1) - 1,
        };
        let seconds = (self.hour_of_day() * 60 + self.minute.unwrap_or(0)) * 60 + self.second.unwrap_or(0);
        let millis = days * DAY_MS + seconds * 1000 + self.nanos.unwrap_or(0) / 1_000_000;
        Moment { millis, nanos: 0 }
    }
}

/// The position of the name that `text` starts with, full or its first three letters.
fn named<'a>(text: &'a str, names: &[&str]) -> Option<(usize, &'a str)> {
    for length in [usize::MAX, 3] {
        for (at, name) in names.iter().enumerate() {
            let name = &name[..length.min(name.len())];
            if let Some(head) = text.get(..name.len())
                && head.eq_ignore_ascii_case(name)
            {
                return Some((at, &text[name.len()..]));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Moment {
        crate::expr::cast::parse_timestamp(text).unwrap()
    }

    fn modern(pattern: &str, text: &str) -> String {
        Pattern::parse(pattern, Style::Modern).unwrap().format(at(text), None).unwrap()
    }

    #[test]
    fn formats_like_java() {
        let t = "2024-02-09 13:04:05.678901";
        for (pattern, expected) in [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2024-02-09 13:04:05.678"),
            ("E, d MMM yy h:mm a", "Fri, 9 Feb 24 1:04 PM"),
            ("EEEE MMMM D", "Fri Feb 40"),
            ("YYYY-'W'ww", "2024-W06"),
            ("QQQ QQQQ", "Q1 1st quarter"),
            ("'T'HH''", "T13'"),
            ("%Y", "%2024"),
        ] {
            assert_eq!(modern(pattern, t), expected);
        }
        assert_eq!(modern("w W", "1969-12-28"), "1 5");
        assert!(Pattern::parse("b", Style::Modern).is_err());
        assert!(Pattern::parse("'x", Style::Modern).is_err());
        assert!(Pattern::parse("z", Style::Modern).unwrap().format(at(t), None).is_err());
    }

    #[test]
    fn moments_of_a_unit_are_written_alike() {
        let unit = |pattern| Pattern::parse(pattern, Style::Modern).unwrap().unit_ms();
        assert_eq!(unit("yyyy-MM-dd"), Some(DAY_MS));
        assert_eq!(unit("yyyy-MM-dd HH"), Some(3_600_000));
        assert_eq!(unit("HH:mm"), Some(60_000));
        assert_eq!(unit("mm:ss"), Some(1_000));
        assert_eq!(unit("HH:mm:ss.SSS"), None);
        for pattern in ["G uuuu D QQQ YYYY w W EEE e F a h K k H", "B m", "ss"] {
            let (written, unit) = (Pattern::parse(pattern, Style::Modern).unwrap(), unit(pattern).unwrap());
            for start in [-unit * 7, 0, unit * 19_763] {
                let at = |millis| written.format(Moment { millis, nanos: 999_999 }, None).unwrap();
                assert_eq!(at(start), at(start + unit - 1), "{pattern}");
            }
        }
    }

    #[test]
    fn reads_strictly_and_leniently() {
        let read = |pattern, style, text| Pattern::parse(pattern, style).unwrap().read(text).map(|(m, _)| m);
        let strict = |p, t| read(p, Style::Modern, t);
        assert_eq!(strict("yyyyMMddHHmmss", "20240229123456"), Some(at("2024-02-29 12:34:56")));
        assert_eq!(strict("yyyy-MM-dd", "2023-02-29"), Some(at("2023-02-28")));
        assert_eq!(strict("yyyy-MM-dd", "2024-13-01"), None);
        assert_eq!(strict("dd/MM/yyyy", "29/02/2024"), Some(at("2024-02-29")));
        assert_eq!(strict("yyyy-DDD", "2024-060"), Some(at("2024-02-29")));
        let lenient = |p, t| read(p, Style::Legacy, t);
        assert_eq!(lenient("yyyy-MM-dd", "2024-13-01"), Some(at("2025-01-01")));
        assert_eq!(lenient("MMM dd, yyyy", "Feb 29, 2024"), Some(at("2024-02-29")));
        assert_eq!(lenient("yyyy-MM-dd HH:mm:ss", "2024-02-29"), None);
    }
}
